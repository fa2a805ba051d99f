"""Resume, Ctrl-C, full disks, bad checkpoints: nothing lost, nothing repeated, nothing executed."""

import copy
import json
import os
import resource
import signal
import subprocess
import sys
import zipfile

import numpy as np
import pytest
from script_runs import QUICK, ROOT, UNMEASURED, assert_same_run, interrupt_at, rows, run, weights

import cifar10_utils
import train_mlp_numpy
import training.checkpoints
import training.console
import training.run
from training import trainer as training_pytorch
from training.images import Images

pytestmark = pytest.mark.training
MLP_SCRIPTS = ("train_mlp_numpy", "train_mlp_pytorch")

RESUMED = {
    "train_mlp_numpy": ["--activation", "tanh"],
    "train_mlp_pytorch": ["--dropout", "0.5", "--optimizer", "adam", "--lr_schedule", "one_cycle", "--weight_decay",
                          "0.1", "--normalization", "batch_torch"],
}


@pytest.mark.parametrize("script", RESUMED)
@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("during", [("next_indices", 1), ("next_indices", 4), ("next_indices", 5), ("next_indices", 7),
                                    ("batches", 1), ("batches", 2)])
def test_resume_continues_bit_for_bit(script, signum, during, standin, tmp_path, monkeypatch, capsys):
    """Batches, weights, dropout, optimizer, schedule and metrics: as if nothing had happened."""
    base = ["--data_dir", standin, "--max_steps", 7, "--batch_size", 600, "--eval_freq", 2, *RESUMED[script]]
    assert run(script, *base, "--output_dir", tmp_path / "whole") == 0
    with monkeypatch.context() as patch:
        on_device = script == "train_mlp_pytorch" and during[0] == "batches"
        interrupt_at(patch, Images if on_device else cifar10_utils.DataSet, *during, signum)
        assert run(script, *base, "--output_dir", tmp_path / "cut") == 128 + signum
    assert f"--resume {tmp_path / 'cut'}" in capsys.readouterr().err
    assert run(script, "--resume", tmp_path / "cut") == 0
    assert_same_run(tmp_path / "whole", tmp_path / "cut")


@pytest.mark.parametrize("killed_in", [(cifar10_utils.DataSet, "next_indices", 1), (training.run.Run, "_save", 1),
                                       (training.run.Run, "_save", 2)])
def test_killed_after_the_evaluation_that_an_interruption_had_put_off(killed_in, standin, tmp_path, monkeypatch):
    """Its row is on disk, or is not, when the kill comes: either way no batch is counted twice."""
    base = ["--data_dir", standin, "--max_steps", 7, "--batch_size", 600, "--eval_freq", 2, "--validation_size", 100]
    assert run("train_mlp_numpy", *base, "--output_dir", tmp_path / "whole") == 0
    with monkeypatch.context() as patch:
        interrupt_at(patch, cifar10_utils.DataSet, "batches", 2)
        assert run("train_mlp_numpy", *base, "--output_dir", tmp_path / "cut") == 130
    with monkeypatch.context() as patch:
        interrupt_at(patch, *killed_in, by=SystemExit)
        with pytest.raises(SystemExit):
            run("train_mlp_numpy", "--resume", tmp_path / "cut")
    assert run("train_mlp_numpy", "--resume", tmp_path / "cut") == 0
    assert_same_run(tmp_path / "whole", tmp_path / "cut")


def test_the_last_evaluation_put_off_is_in_the_last_checkpoint(standin, tmp_path, monkeypatch):
    """Or a run that has ended, and is given more steps, would forget its batches."""
    base = ["--data_dir", standin, "--batch_size", 20, "--eval_freq", 2, "--max_steps", 3, "--validation_size", 100]
    with monkeypatch.context() as patch:
        interrupt_at(patch, cifar10_utils.DataSet, "batches", 2)
        assert run("train_mlp_numpy", *base, "--output_dir", tmp_path / "run") == 130
    assert training.checkpoints.NPZ.load(tmp_path / "run/last.npz")["totals"][3] == 20
    assert run("train_mlp_numpy", "--resume", tmp_path / "run") == 0
    assert run("train_mlp_numpy", "--resume", tmp_path / "run", "--max_steps", 4) == 0
    assert [row["step"] for row in rows(tmp_path / "run") if row["split"] == "train"] == ["2", "4"]


@pytest.mark.slow
def test_convnet_script_runs_and_resumes(tmp_path, monkeypatch, capsys):
    """The whole path of the ConvNet script on 60 images: channels_last, BatchNorm statistics and Adam included."""
    from imagefiles import cifar10_standin

    data = tmp_path / "cifar-10-batches-py"
    cifar10_standin.make_standin(data, train_size=60, test_size=20, seed=0)
    base = ["--data_dir", data, "--max_steps", 4, "--batch_size", 8, "--eval_freq", 3]
    assert run("train_convnet_pytorch", *base, "--output_dir", tmp_path / "whole") == 0
    with monkeypatch.context() as patch:
        interrupt_at(patch, cifar10_utils.DataSet, "next_indices", 2)
        assert run("train_convnet_pytorch", *base, "--output_dir", tmp_path / "cut") == 130
    assert run("train_convnet_pytorch", "--resume", tmp_path / "cut" / "last.pt") == 0
    assert_same_run(tmp_path / "whole", tmp_path / "cut")
    assert json.loads((tmp_path / "cut" / "summary.json").read_text())["parameters"] == 11_138_122


def test_max_steps_can_be_raised_on_resume(standin, tmp_path):
    base = ["--data_dir", standin, "--batch_size", 20, "--eval_freq", 2]
    assert run("train_mlp_numpy", *base, "--max_steps", 6, "--output_dir", tmp_path / "whole") == 0
    assert run("train_mlp_numpy", *base, "--max_steps", 4, "--output_dir", tmp_path / "run") == 0
    assert run("train_mlp_numpy", "--resume", tmp_path / "run", "--max_steps", 6) == 0
    assert_same_run(tmp_path / "whole", tmp_path / "run")


def test_a_raised_max_steps_is_the_runs_own_from_then_on(standin, tmp_path, monkeypatch):
    """Stopped once more, it needs no flag to continue; and until it has ended again, no summary says that it has."""
    base = ["--data_dir", standin, "--batch_size", 20]
    assert run("train_mlp_numpy", *base, "--epochs", 1, "--output_dir", tmp_path / "run") == 0
    with monkeypatch.context() as patch:
        interrupt_at(patch, cifar10_utils.DataSet, "next_indices", 3)
        assert run("train_mlp_numpy", "--resume", tmp_path / "run", "--max_steps", 110) == 130
    assert not (tmp_path / "run/summary.json").exists()
    assert run("train_mlp_numpy", "--resume", tmp_path / "run") == 0
    assert json.loads((tmp_path / "run/summary.json").read_text())["steps"] == 110
    assert json.loads((tmp_path / "run/config.json").read_text())["flags"]["epochs"] == 0


@pytest.mark.parametrize("script", MLP_SCRIPTS)
@pytest.mark.parametrize("flags, flag", [(["--max_steps", 5, "--eval_freq", 2, "--validation_size", 100], "--max_steps"),
                                         (["--epochs", 1], "--epochs")])
def test_a_finished_run_that_is_resumed_keeps_what_it_has(script, flags, flag, standin, tmp_path, capsys):
    """A job that starts again by itself would else read the test split once more and count that time as the run's."""
    assert run(script, "--data_dir", standin, "--batch_size", 200, *flags, "--output_dir", tmp_path / "run") == 0
    summary = capsys.readouterr().out.split("test_accuracy")[1]
    before = {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()}
    assert run(script, "--resume", tmp_path / "run") == 0
    said = capsys.readouterr().out
    assert "is finished; to train it for longer" in said and f"larger {flag}" in said
    assert said.split("test_accuracy")[1] == summary
    assert {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()} == before
    (tmp_path / "run/summary.json").write_text("{")  # damaged: it is written again
    assert run(script, "--resume", tmp_path / "run") == 0
    assert json.loads((tmp_path / "run/summary.json").read_text())["steps"]


def test_a_resume_that_is_refused_changes_nothing(standin, tmp_path, capsys):
    out = tmp_path / "run"
    assert run("train_mlp_pytorch", "--data_dir", standin, *QUICK, "--lr_schedule", "one_cycle", "--validation_size", 100,
               "--output_dir", out) == 0
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    assert run("train_mlp_pytorch", "--resume", out / "best.pt", "--max_steps", 9) == 2
    assert "one_cycle was laid out for 4 steps, not 9" in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


def test_a_run_is_resumed_with_its_own_data(standin, tmp_path, capsys):
    _checkpoint(standin, tmp_path / "run")
    config = json.loads((tmp_path / "run/config.json").read_text())
    (tmp_path / "run/config.json").write_text(json.dumps(config | {"data": "published", "data_name": "CIFAR-10"}))
    capsys.readouterr()
    assert run("train_mlp_pytorch", "--resume", tmp_path / "run", "--max_steps", 6) == 2
    error = capsys.readouterr().err
    assert "was trained on CIFAR-10 (published), this is synthetic stand-in (synthetic)" in error


def test_killed_before_its_first_checkpoint_the_way_out_is_named(standin, tmp_path, capsys):
    _checkpoint(standin, tmp_path / "run")
    for name in ("last.pt", "summary.json"):
        (tmp_path / "run" / name).unlink(missing_ok=True)
    capsys.readouterr()
    assert run("train_mlp_pytorch", "--resume", tmp_path / "run") == 2
    assert f"remove {tmp_path / 'run'} and start it again" in capsys.readouterr().err


def test_ctrl_c_in_the_shell(standin, tmp_path):
    """A real process, a real SIGINT: exit 130, one line, and a run that can be resumed."""
    out = tmp_path / "run"
    process = subprocess.Popen([sys.executable, "train_mlp_numpy.py", "--data_dir", standin, "--max_steps", "1000000",
                                "--eval_freq", "10", "--output_dir", out], cwd=ROOT, stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    process.stdout.readline()
    process.stdout.readline()  # the first evaluation is done
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in errors
    assert errors.count("\n") == 1
    step = training.checkpoints.NPZ.load(out / "last.npz")["step"]
    assert run("train_mlp_numpy", "--resume", out, "--max_steps", step + 1) == 0


def assert_diverged(out, capsys, *steps):
    message = capsys.readouterr().err
    assert "step" in message and "--learning_rate" in message and message.count("\n") == 1
    assert sorted({int(row["step"]) for row in rows(out)}) == [*steps]
    assert not (out / "summary.json").exists()
    checkpoints = [*out.glob("last.*")]
    assert len(checkpoints) == bool(steps)
    assert all(np.isfinite(value).all() for _ in checkpoints for value in weights(out).values())


@pytest.mark.parametrize("script", MLP_SCRIPTS)
@pytest.mark.parametrize("eval_freq", [1, 50])  # an evaluation sees it, or the second step
def test_divergence_is_exit_3(script, eval_freq, standin, tmp_path, capsys):
    assert run(script, "--data_dir", standin, *QUICK, "--max_steps", 50, "--learning_rate", "1e20", "--weight_std", 0.01,
               "--eval_freq", eval_freq, "--output_dir", tmp_path / "run") == 3
    assert_diverged(tmp_path / "run", capsys)


@pytest.mark.parametrize("script, module", [("train_mlp_numpy", train_mlp_numpy), ("train_mlp_pytorch", training_pytorch)])
def test_a_diverged_evaluation_leaves_what_was_written_before(script, module, standin, tmp_path, monkeypatch, capsys):
    real, results = module.evaluate, iter([None, (float("nan"), 0.1)])
    monkeypatch.setattr(module, "evaluate", lambda *arguments: next(results) or real(*arguments))
    assert run(script, "--data_dir", standin, *QUICK, "--output_dir", tmp_path / "run") == 3
    assert_diverged(tmp_path / "run", capsys, 2)


def _checkpoint(standin, folder, script="train_mlp_pytorch", *more):
    assert run(script, "--data_dir", standin, *QUICK, *more, "--output_dir", folder) == 0
    return folder / ("last.npz" if script == "train_mlp_numpy" else "last.pt")


@pytest.mark.parametrize("script", MLP_SCRIPTS)
@pytest.mark.parametrize("damage", ["missing folder", "missing file", "truncated", "garbage", "empty", "foreign",
                                    "pickle"])
def test_bad_checkpoints(script, damage, standin, tmp_path, capsys):
    out = tmp_path / "run"
    path = _checkpoint(standin, out, script)
    if damage == "missing folder":
        out = tmp_path / "nowhere"
    elif damage == "missing file":
        path.unlink()
    elif damage == "truncated":
        path.write_bytes(path.read_bytes()[:-1000])
    elif damage == "garbage":
        path.write_bytes(os.urandom(5000))
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "foreign":
        if script == "train_mlp_numpy":
            np.savez(path, weights=np.zeros(3))
        else:
            import torch
            torch.save({"weights": torch.zeros(3)}, path)
    else:
        path.write_bytes(b"cos\nsystem\n(S'touch " + os.fsencode(tmp_path / "executed") + b"'\ntR.")
    capsys.readouterr()
    assert run(script, "--resume", out, "--max_steps", 6) == 2
    message = capsys.readouterr().err
    assert "--resume" in message
    assert message.count("\n") == 1
    assert not (tmp_path / "executed").exists()


def test_mismatched_checkpoints(standin, tmp_path, capsys):
    path = _checkpoint(standin, tmp_path / "run")
    assert run("train_mlp_pytorch", "--resume", tmp_path / "run", "--dnn_hidden_units", "50") == 2
    assert "was trained with --dnn_hidden_units [100], not [50]" in capsys.readouterr().err
    assert run("train_mlp_numpy", "--resume", tmp_path / "run") == 2
    assert f"--resume: {tmp_path / 'run'} is a run of 'train_mlp_pytorch', not of" in capsys.readouterr().err
    # a checkpoint of another width put in its place: the flags inside it tell
    other = _checkpoint(standin, tmp_path / "other", "train_mlp_pytorch", "--dnn_hidden_units", "50")
    path.write_bytes(other.read_bytes())
    capsys.readouterr()
    assert run("train_mlp_pytorch", "--resume", tmp_path / "run", "--max_steps", 6) == 2
    assert "--dnn_hidden_units" in capsys.readouterr().err
    assert run("train_mlp_pytorch", "--resume", tmp_path / "other", "--max_steps", 2) == 2
    assert "already at step 4" in capsys.readouterr().err


def test_resumed_run_stays_in_its_folder(standin, tmp_path, capsys):
    _checkpoint(standin, tmp_path / "run")
    assert run("train_mlp_pytorch", "--resume", tmp_path / "run", "--output_dir", tmp_path / "else") == 2
    assert "stays in its own folder" in capsys.readouterr().err


@pytest.mark.parametrize("interrupted", [True, False])
def test_ctrl_c_of_which_a_library_makes_another_error(interrupted, standin, tmp_path, monkeypatch, capsys):
    def start_up(*_, **__):
        try:
            if interrupted:
                raise KeyboardInterrupt
        finally:
            raise AttributeError("half started")

    monkeypatch.setattr(training.console.tqdm, "write", start_up)
    argv = ["train_mlp_numpy", "--data_dir", standin, *QUICK, "--output_dir", tmp_path / "run"]
    if not interrupted:
        with pytest.raises(AttributeError):
            run(*argv)
        return
    assert run(*argv) == 130
    assert capsys.readouterr().err.endswith("stopped at once; what was saved before is whole\n")


def test_full_disk(standin, tmp_path):
    """No file may grow past 300 kB: the checkpoint fails, the metrics written before stay whole, resume works."""
    out = tmp_path / "run"
    limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))  # noqa: E731
    argv = [sys.executable, "train_mlp_numpy.py", "--data_dir", standin, *QUICK]
    done = subprocess.run([*argv, "--output_dir", out], cwd=ROOT, env=UNMEASURED, preexec_fn=limit, capture_output=True,
                          text=True)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert done.stderr.count("\n") == 1
    assert "File too large" in done.stderr
    assert [r["step"] for r in rows(out)] == ["2", "2"]
    assert not list(out.glob("*.part")) and not list(out.glob(".*.part"))
    # with a first checkpoint on disk, a full disk later costs nothing
    done = subprocess.run([*argv, "--output_dir", tmp_path / "b"], cwd=ROOT, capture_output=True, text=True, check=True)
    before = (tmp_path / "b" / "last.npz").read_bytes()
    resumed = [sys.executable, "train_mlp_numpy.py", "--resume", tmp_path / "b", "--max_steps", "8"]
    assert subprocess.run(resumed, cwd=ROOT, preexec_fn=limit, capture_output=True).returncode == 1
    assert (tmp_path / "b" / "last.npz").read_bytes() == before
    assert subprocess.run(resumed, cwd=ROOT, capture_output=True).returncode == 0
    assert [r["step"] for r in rows(tmp_path / "b") if r["split"] == "test"] == ["2", "4", "6", "8"]


def test_a_half_written_row_is_not_read(standin, tmp_path):
    out = tmp_path / "run"
    _checkpoint(standin, out, "train_mlp_numpy")
    with open(out / "metrics.csv", "a") as file:
        file.write("6,train,1.2")
    assert run("train_mlp_numpy", "--resume", out, "--max_steps", 6) == 0
    assert [r["step"] for r in rows(out)] == ["2", "2", "4", "4", "6", "6"]


def test_a_run_from_before_a_flag_existed_is_continued(standin, tmp_path):
    """A later version's new flags have their defaults; an unknown flag is another script's."""
    _checkpoint(standin, tmp_path / "run")
    config = json.loads((tmp_path / "run/config.json").read_text())
    del config["flags"]["lr_schedule"]
    (tmp_path / "run/config.json").write_text(json.dumps(config))
    assert run("train_mlp_pytorch", "--resume", tmp_path / "run", "--max_steps", 6) == 0
    config["flags"]["other_scripts_flag"] = 1
    (tmp_path / "run/config.json").write_text(json.dumps(config))
    assert run("train_mlp_pytorch", "--resume", tmp_path / "run", "--max_steps", 8) == 2


@pytest.mark.parametrize("kind", ["compressed", "an array named twice", "members that overlap"])
def test_an_npz_that_would_fill_the_memory_is_one_line(kind, tmp_path):
    path, array = tmp_path / "last.npz", np.zeros(300_000)
    saved = {"state": [{"array": "array_0"}] * (2 if kind == "an array named twice" else 1)}
    save = np.savez_compressed if kind == "compressed" else np.savez
    save(path, checkpoint=np.array(json.dumps(saved)), array_0=array)
    if kind == "members that overlap":
        with zipfile.ZipFile(path, "a") as file:  # the directory names the same bytes again
            file.infolist().append(copy.copy(file.getinfo("array_0.npy")))
            file.infolist()[-1].filename = "array_1.npy"
            file._didModify = True
    with pytest.raises(training.checkpoints.CheckpointError, match="is not a whole checkpoint"):
        training.checkpoints.NPZ.load(path)


def test_a_stand_in_of_another_seed_is_not_resumed_on(tmp_path, capsys):
    for seed in (0, 1):
        cifar10_utils.main(["standin", str(tmp_path / f"data{seed}"), "--train_size", "100", "--test_size", "50", "--seed", str(seed)])
    flags = ["--batch_size", "20", "--eval_freq", "2"]
    assert run("train_mlp_numpy", "--data_dir", tmp_path / "data0", *flags, "--max_steps", "2", "--output_dir", tmp_path / "run") == 0
    resumed = ["--resume", tmp_path / "run", "--max_steps", "4", "--data_dir"]
    capsys.readouterr()
    assert run("train_mlp_numpy", *resumed, tmp_path / "data1") == 2
    assert "other files of synthetic stand-in (their MD5 sums differ)" in capsys.readouterr().err
    described = json.loads((tmp_path / "run/config.json").read_text())
    del described["data_digest"]  # as of a run of an earlier version, which says nothing of it
    (tmp_path / "run/config.json").write_text(json.dumps(described))
    assert run("train_mlp_numpy", *resumed, tmp_path / "data1") == 0
