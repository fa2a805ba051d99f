"""The training scripts as a user meets them: flags, run folder, resume, Ctrl-C, bad input."""

import csv
import dataclasses
import json
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import cifar10_utils
import plot_curves
import train_convnet_pytorch
import train_mlp_numpy
import train_mlp_pytorch
import training
from flags import UserError
from training_pytorch import load_torch

ROOT = Path(__file__).parent.parent
SCRIPTS = {"train_mlp_numpy": train_mlp_numpy, "train_mlp_pytorch": train_mlp_pytorch,
           "train_convnet_pytorch": train_convnet_pytorch}
QUICK = ["--max_steps", "4", "--batch_size", "20", "--eval_freq", "2"]
# Each flag with a value that is not its default; a flag that is missing here fails test_every_flag_is_tried.
COMMON = {"learning_rate": "0.01", "max_steps": "3", "batch_size": "7", "eval_freq": "3", "seed": "7",
          "validation_size": "100"}
TORCH = {"optimizer": "rmsprop", "momentum": "0.9", "weight_decay": "0.01", "lr_schedule": "cosine",
         "device": "cpu", "precision": "bf16"}
MLP = {"dnn_hidden_units": "9,5", "activation": "tanh", "weight_std": "0.01"}
FLAGS = {
    "train_mlp_numpy": {**COMMON, **MLP, "epochs": "1"},
    "train_mlp_pytorch": {**COMMON, **TORCH, **MLP, "normalization": "layer", "dropout": "0.5"},
}
ELSEWHERE = {"data_dir", "output_dir", "resume", "dataset"}  # flags with tests of their own


def run(name: str, *argv: object) -> int:
    module = SCRIPTS[name]
    return training.run_script(module.Config, module.train, module.__doc__, [str(a) for a in argv])


def rows(folder: Path) -> list[dict[str, str]]:
    with open(folder / "metrics.csv", newline="") as file:
        return list(csv.DictReader(file))


def untimed(folder: Path) -> list[tuple[str, ...]]:
    return [(r["step"], r["split"], r["loss"], r["accuracy"]) for r in rows(folder)]


def weights(folder: Path) -> dict[str, np.ndarray]:
    if (folder / "last.npz").exists():
        params = training.NPZ.load(folder / "last.npz")["state"]["params"]
        return {f"{i}.{k}": v for i, layer in enumerate(params) for k, v in layer.items()}
    return {k: v.numpy() for k, v in load_torch(folder / "last.pt")["state"]["model"].items()}


def assert_same_run(one: Path, other: Path) -> None:
    assert untimed(one) == untimed(other)
    first, second = weights(one), weights(other)
    assert first.keys() == second.keys()
    for key in first:
        np.testing.assert_array_equal(first[key], second[key], err_msg=key)


# ---------------------------------------------------------------- flags


@pytest.mark.q1_2
@pytest.mark.parametrize(("script", "name", "value"), [(s, n, v) for s, flags in FLAGS.items() for n, v in flags.items()])
def test_each_flag(script, name, value, standin, tmp_path):
    out = tmp_path / "run"
    assert run(script, "--data_dir", standin, *QUICK, f"--{name}", value, "--output_dir", out) == 0
    saved = json.loads((out / "config.json").read_text())["flags"][name]
    assert ",".join(map(str, saved)) == value if isinstance(saved, list) else type(saved)(value) == saved
    assert json.loads((out / "summary.json").read_text())["test_accuracy"] == float(rows(out)[-1]["accuracy"])


@pytest.mark.parametrize("script", FLAGS)
def test_every_flag_is_tried(script):
    names = {f.name for f in dataclasses.fields(SCRIPTS[script].Config)}
    assert names == set(FLAGS[script]) | (ELSEWHERE & names)


@pytest.mark.q1_2
@pytest.mark.parametrize("script", FLAGS)
@pytest.mark.parametrize("change", [("learning_rate", "0.02"), ("seed", "1"), ("dnn_hidden_units", ""),
                                    ("activation", "sigmoid"), ("weight_std", "0.02"), ("batch_size", "10")])
def test_flags_change_the_training(script, change, standin, tmp_path):
    base = ["--data_dir", standin, *QUICK]
    assert run(script, *base, "--output_dir", tmp_path / "a") == 0
    assert run(script, *base, f"--{change[0]}", change[1], "--output_dir", tmp_path / "b") == 0
    assert untimed(tmp_path / "a") != untimed(tmp_path / "b")


@pytest.mark.parametrize("script", SCRIPTS)
def test_defaults_are_the_assignments(script):
    config = SCRIPTS[script].Config()
    if script == "train_convnet_pytorch":
        expected = (1e-4, 5000, 32, 500, "adam")
        assert (config.learning_rate, config.max_steps, config.batch_size, config.eval_freq, config.optimizer) == expected
    else:
        expected = ([100], 1e-3, 1400, 200, 100)
        assert (config.dnn_hidden_units, config.learning_rate, config.max_steps, config.batch_size,
                config.eval_freq) == expected
    assert (config.data_dir, config.seed, config.validation_size) == ("./cifar10/cifar-10-batches-py", 42, 0)


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_states_every_flag_and_default(script, capsys):
    with pytest.raises(SystemExit) as stop:
        run(script, "--help")
    assert stop.value.code == 0
    text = capsys.readouterr().out
    for f in dataclasses.fields(SCRIPTS[script].Config):
        assert f"--{f.name}" in text
    assert text.count("(default:") == len(dataclasses.fields(SCRIPTS[script].Config))


BAD_FLAGS = [
    ("--max_steps", "0"), ("--max_steps", "-3"), ("--max_steps", "ten"), ("--max_steps", "1.5"),
    ("--learning_rate", "0"), ("--learning_rate", "-1"), ("--learning_rate", "nan"), ("--learning_rate", "inf"),
    ("--learning_rate", "fast"), ("--batch_size", "0"), ("--eval_freq", "0"), ("--seed", "-1"),
    ("--validation_size", "-1"), ("--no_such_flag", "1"), ("--max_step", "5"),
]
BAD_MLP = [("--dnn_hidden_units", "0"), ("--dnn_hidden_units", "100,-2"), ("--dnn_hidden_units", "a"),
           ("--dnn_hidden_units", "100,,5"), ("--activation", "relux"), ("--weight_std", "-1")]
BAD_TORCH = [("--device", "tpu"), ("--precision", "fp8"), ("--optimizer", "magic"), ("--momentum", "1"),
             ("--weight_decay", "-0.1"), ("--lr_schedule", "up")]


@pytest.mark.parametrize(("script", "bad"), [
    *[(s, b) for s in SCRIPTS for b in BAD_FLAGS],
    *[(s, b) for s in FLAGS for b in BAD_MLP],
    *[(s, b) for s in ("train_mlp_pytorch", "train_convnet_pytorch") for b in BAD_TORCH],
    *[("train_mlp_pytorch", b) for b in (("--normalization", "group"), ("--dropout", "1"))],
])
def test_bad_flag_is_one_line_and_exit_2(script, bad, tmp_path, capsys):
    out = tmp_path / "run"
    try:  # the data folder does not exist: a message about it would mean that the flags were checked too late
        status = run(script, "--data_dir", tmp_path / "none", "--output_dir", out, *bad)
    except SystemExit as stop:  # argparse's own
        status = stop.code
    message = capsys.readouterr().err
    assert status == 2
    assert message.count("\n") == 1
    assert bad[0] in message
    assert "Traceback" not in message
    assert not out.exists()


def test_cuda_without_cuda(standin, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert run("train_mlp_pytorch", "--data_dir", standin, "--device", "cuda", "--output_dir", tmp_path / "r") == 2
    assert "--device: cuda is not available" in capsys.readouterr().err


def test_nesterov_without_momentum(tmp_path, capsys):
    assert run("train_mlp_pytorch", "--optimizer", "nesterov", "--output_dir", tmp_path / "r") == 2
    assert "--momentum: nesterov needs" in capsys.readouterr().err
    assert run("train_mlp_pytorch", "--normalization", "batch", "--batch_size", "1", "--output_dir", tmp_path / "r") == 2
    assert "--batch_size: batch normalization" in capsys.readouterr().err


def test_batch_size_above_the_split(standin, tmp_path, capsys):
    for script in FLAGS:
        assert run(script, "--data_dir", standin, "--batch_size", 2001, "--output_dir", tmp_path / script) == 2
        assert "--batch_size: 2001 is more than the training split's 2000" in capsys.readouterr().err


def test_validation_size_above_the_split(standin, tmp_path, capsys):
    assert run("train_mlp_numpy", "--data_dir", standin, "--validation_size", 2000, "--output_dir", tmp_path / "r") == 2
    assert "validation_size" in capsys.readouterr().err


# ---------------------------------------------------------------- the run folder


@pytest.mark.q1_2
@pytest.mark.q2_1
@pytest.mark.parametrize("script", FLAGS)
def test_run_folder(script, standin, tmp_path, capsys):
    out = tmp_path / "run"
    assert run(script, "--data_dir", standin, *QUICK, "--output_dir", out) == 0
    text = capsys.readouterr()
    assert text.out.splitlines()[0].startswith("NOTICE: this trains on the synthetic stand-in")
    assert "step" not in text.err  # no progress bar where nobody sees it
    ending = "npz" if script == "train_mlp_numpy" else "pt"
    assert {p.name for p in out.iterdir()} == {
        ".lock", "config.json", "metrics.csv", "curves.png", "curves.svg", f"last.{ending}", "summary.json"}
    assert [(r["step"], r["split"]) for r in rows(out)] == [("2", "train"), ("2", "test"), ("4", "train"), ("4", "test")]
    summary = json.loads((out / "summary.json").read_text())
    assert summary["data"] == "synthetic"
    assert summary["parameters"] == 3072 * 100 + 100 + 1010
    assert summary["steps"] == 4
    assert {"test_loss", "wall_seconds", "images_per_second", "peak_memory_mb"} <= summary.keys()
    assert "SYNTHETIC" in (out / "curves.svg").read_text() or "synthetic" in json.loads(
        (out / "config.json").read_text())["data_name"]


def test_a_used_folder_is_refused(standin, tmp_path, capsys):
    base = ["--data_dir", standin, *QUICK, "--output_dir", tmp_path / "run"]
    assert run("train_mlp_numpy", *base) == 0
    before = {p: p.read_bytes() for p in (tmp_path / "run").iterdir()}
    assert run("train_mlp_numpy", *base) == 2
    assert "already holds a run" in capsys.readouterr().err
    assert before == {p: p.read_bytes() for p in (tmp_path / "run").iterdir()}


def test_an_unwritable_folder_is_refused(standin, tmp_path, capsys):
    (tmp_path / "file").write_text("a file is no folder")
    assert run("train_mlp_numpy", "--data_dir", standin, *QUICK, "--output_dir", tmp_path / "file" / "run") == 2
    assert "--output_dir: cannot write to" in capsys.readouterr().err


def test_two_runs_in_one_folder(standin, tmp_path, capsys, monkeypatch):
    """A second run that starts while the first is at work is refused, and the first is not disturbed."""
    out = tmp_path / "run"
    base = ["--data_dir", standin, *QUICK]
    status = []
    real = cifar10_utils.DataSet.next_batch

    def next_batch(self, size):
        if not status:
            status.append(None)
            status[0] = run("train_mlp_numpy", *base, "--resume", out, "--output_dir", out)
        return real(self, size)

    monkeypatch.setattr(cifar10_utils.DataSet, "next_batch", next_batch)
    assert run("train_mlp_numpy", *base, "--output_dir", out) == 0
    assert status == [2]
    assert "in use by another run" in capsys.readouterr().err
    assert len(rows(out)) == 4


def test_validation_split_is_evaluated_and_test_read_once(standin, tmp_path, monkeypatch):
    read = []
    real = train_mlp_numpy.evaluate
    monkeypatch.setattr(train_mlp_numpy, "evaluate", lambda model, split: (read.append(split.num_examples), real(model, split))[1])
    assert run("train_mlp_numpy", "--data_dir", standin, *QUICK, "--validation_size", 100, "--output_dir", tmp_path / "r") == 0
    assert read == [100, 100, 400]
    assert [r["split"] for r in rows(tmp_path / "r")] == ["train", "validation", "train", "validation", "test"]
    assert (tmp_path / "r" / "best.npz").exists()


def test_epochs_are_counted_over_the_data(standin, tmp_path):
    argv = ["--data_dir", standin, "--batch_size", 300, "--epochs", 3, "--output_dir", tmp_path / "r"]
    assert run("train_mlp_numpy", *argv) == 0
    assert [r["step"] for r in rows(tmp_path / "r") if r["split"] == "test"] == ["7", "14", "20"]  # of 6 2/3 each


def test_numpy_script_needs_no_torch(standin, tmp_path):
    code = ("import sys, train_mlp_numpy as t; t.train(t.Config(data_dir=sys.argv[1], output_dir=sys.argv[2], "
            "max_steps=2)); assert not [m for m in sys.modules if m.split('.')[0] in ('torch', 'torchvision')]")
    subprocess.run([sys.executable, "-c", code, standin, tmp_path / "r"], cwd=ROOT, check=True, capture_output=True)


def test_progress_bar_on_a_terminal(standin, tmp_path):
    import fcntl
    import pty
    import struct
    import termios

    terminal, child = pty.openpty()
    fcntl.ioctl(child, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))  # a new one has no width
    process = subprocess.Popen([sys.executable, "train_mlp_numpy.py", "--data_dir", standin, *QUICK, "--output_dir",
                                tmp_path / "r"], cwd=ROOT, stderr=child, stdout=subprocess.DEVNULL)
    os.close(child)
    shown = b""
    while True:
        try:
            piece = os.read(terminal, 4096)
        except OSError:
            break
        if not piece:
            break
        shown += piece
    assert process.wait() == 0
    assert b"4/4" in shown


# ---------------------------------------------------------------- resume, Ctrl-C, faults

RESUMED = {
    "train_mlp_numpy": ["--activation", "tanh"],
    "train_mlp_pytorch": ["--dropout", "0.5", "--optimizer", "adam", "--lr_schedule", "one_cycle", "--weight_decay",
                          "0.1", "--normalization", "batch_torch"],
}


def interrupt_at(monkeypatch, owner, name: str, call: int, signum: int = signal.SIGINT) -> None:
    """Send this process a signal during the `call`-th call of owner.name."""
    real, calls = getattr(owner, name), []

    def wrapper(*args, **kwargs):
        calls.append(None)
        if len(calls) == call:
            os.kill(os.getpid(), signum)
        return real(*args, **kwargs)

    monkeypatch.setattr(owner, name, wrapper)


@pytest.mark.parametrize("script", RESUMED)
@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("during", [("next_batch", 1), ("next_batch", 4), ("next_batch", 5), ("next_batch", 7),
                                    ("batches", 1), ("batches", 2)])
def test_resume_continues_bit_for_bit(script, signum, during, standin, tmp_path, monkeypatch, capsys):
    """Batches, weights, dropout, optimizer, schedule and metrics: as if nothing had happened."""
    base = ["--data_dir", standin, "--max_steps", 7, "--batch_size", 600, "--eval_freq", 2, *RESUMED[script]]
    assert run(script, *base, "--output_dir", tmp_path / "whole") == 0
    with monkeypatch.context() as patch:
        interrupt_at(patch, cifar10_utils.DataSet, *during, signum)
        assert run(script, *base, "--output_dir", tmp_path / "cut") == 128 + signum
    assert f"--resume {tmp_path / 'cut'}" in capsys.readouterr().err
    assert run(script, "--resume", tmp_path / "cut") == 0
    assert_same_run(tmp_path / "whole", tmp_path / "cut")


@pytest.mark.q4a
@pytest.mark.slow
def test_convnet_script_runs_and_resumes(tmp_path, monkeypatch, capsys):
    """The whole path of the ConvNet script on 60 images: channels_last, BatchNorm statistics and Adam included."""
    import cifar10_standin

    data = tmp_path / "cifar-10-batches-py"
    cifar10_standin.make_standin(data, train_size=60, test_size=20, seed=0)
    base = ["--data_dir", data, "--max_steps", 4, "--batch_size", 8, "--eval_freq", 3]
    assert run("train_convnet_pytorch", *base, "--output_dir", tmp_path / "whole") == 0
    with monkeypatch.context() as patch:
        interrupt_at(patch, cifar10_utils.DataSet, "next_batch", 2)
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
    step = training.NPZ.load(out / "last.npz")["step"]
    assert run("train_mlp_numpy", "--resume", out, "--max_steps", step + 1) == 0


@pytest.mark.parametrize("script", FLAGS)
def test_divergence_is_exit_3_and_keeps_what_was_written(script, standin, tmp_path, capsys):
    out = tmp_path / "run"
    status = run(script, "--data_dir", standin, *QUICK, "--max_steps", 50, "--learning_rate", "1e20", "--eval_freq", 1,
                 "--output_dir", out)
    message = capsys.readouterr().err
    assert status == 3
    assert "step" in message
    assert "--learning_rate" in message
    assert message.count("\n") == 1
    assert rows(out)


def _checkpoint(standin, folder, script="train_mlp_pytorch", *more):
    assert run(script, "--data_dir", standin, *QUICK, *more, "--output_dir", folder) == 0
    return folder / ("last.npz" if script == "train_mlp_numpy" else "last.pt")


@pytest.mark.parametrize("script", FLAGS)
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
    assert run("train_mlp_numpy", "--resume", tmp_path / "run") == 2  # another script's run
    assert "--resume" in capsys.readouterr().err
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


def test_full_disk(standin, tmp_path):
    """No file may grow past 300 kB: the checkpoint fails, the metrics written before stay whole, resume works."""
    out = tmp_path / "run"
    limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))  # noqa: E731
    argv = [sys.executable, "train_mlp_numpy.py", "--data_dir", standin, *QUICK]
    done = subprocess.run([*argv, "--output_dir", out], cwd=ROOT, preexec_fn=limit, capture_output=True, text=True)
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


# ---------------------------------------------------------------- pieces


@pytest.mark.parametrize("script", SCRIPTS)
def test_accuracy_of_one_hot_and_integer_targets(script):
    accuracy = SCRIPTS[script].accuracy
    scores = np.array([[1, 3, 2], [5, 1, 0], [0, 1, 9], [1, 0, 0]], np.float32)
    assert accuracy(scores, np.array([1, 0, 0, 2])) == 0.5
    assert accuracy(scores, np.eye(3)[[1, 0, 0, 2]]) == 0.5
    import torch
    assert accuracy(torch.from_numpy(scores), torch.tensor([1, 0, 2, 2])) == 0.75


def test_config_checks_what_python_gives_it():
    assert train_mlp_numpy.Config(dnn_hidden_units=[20, 10]).dnn_hidden_units == [20, 10]
    for bad in ({"max_steps": 1.5}, {"dnn_hidden_units": [0]}, {"activation": "no"}, {"learning_rate": None}):
        with pytest.raises(UserError):
            train_mlp_numpy.Config(**bad)


def test_plot_curves(standin, tmp_path, capsys):
    for script in FLAGS:
        _checkpoint(standin, tmp_path / script, script)
    out = tmp_path / "both"
    folders = [str(tmp_path / script) for script in FLAGS]
    assert plot_curves.main([*folders, "--labels", "NumPy", "PyTorch", "--out", str(out)]) == 0
    assert out.with_suffix(".png").stat().st_size > 10_000
    assert out.with_suffix(".svg").exists()
    for bad in ([str(tmp_path)], [folders[0], "--labels", "a", "b"]):
        with pytest.raises(SystemExit) as stop:
            plot_curves.main(bad)
        assert stop.value.code == 2
