"""The training scripts as a user meets them: flags, run folder, resume, Ctrl-C, bad input."""

import dataclasses
import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest
import torch
from script_runs import QUICK, ROOT, SCRIPTS, rows, run, untimed
from torch import nn

import cifar10_utils
import plot_curves
import search_mlp_pytorch
import train_convnet_pytorch
import train_mlp_autodiff
import train_mlp_numpy
import train_mlp_pytorch
import train_transfer_pytorch
import training.flags
import training.optimizers
import training.script
from custom_batchnorm import CustomBatchNormManualModule
from training import machine
from training import trainer as training_pytorch
from training.flags import UserError
from training.script import parse_flags
from training.trainer import load_torch

# Each flag with a value that is not its default; a flag that is missing here fails test_every_flag_is_tried.
pytestmark = pytest.mark.training
COMMON = {"learning_rate": "0.01", "max_steps": "3", "batch_size": "7", "eval_freq": "3", "seed": "7",
          "validation_size": "100", "epochs": "1", "eval_images": "90", "eval_at_start": "on", "tensorboard": "on"}
TORCH = {"optimizer": "rmsprop", "momentum": "0.9", "weight_decay": "0.01", "lr_schedule": "cosine",
         "device": "cpu", "precision": "bf16", "label_smoothing": "0.1", "flip": "on", "shift": "2", "mixup": "0.5",
         "ema_decay": "0.9", "flip_average": "on", "pixel_scale": "0.1", "shift_fill": "reflect", "cutout": "9",
         "tf32": "on", "deterministic": "on", "cuda_graph": "on"}
MLP = {"dnn_hidden_units": "9,5", "activation": "tanh", "weight_std": "0.01"}
FLAGS = {
    "train_mlp_numpy": {**COMMON, **MLP, "pixel_scale": "0.1"},
    "train_mlp_pytorch": {**COMMON, **TORCH, **MLP, "normalization": "layer", "dropout": "0.5",
                          "blocks": "2", "expansion": "3", "norm_before": "linear",
                          "input_dropout": "0.2"},
    "train_convnet_pytorch": {**COMMON, **TORCH, "model": "study", "channels": "3,5", "fc": "9",
                              "activation": "tanh", "dropout": "0.5"},
}
NEEDED = {  # by a flag to have an effect
    "momentum": ["--optimizer", "sgd"], "norm_before": ["--normalization", "layer"], "expansion": ["--blocks", "1"],
    "shift_fill": ["--shift", "2"], "tf32": ["--device", "auto"], "deterministic": ["--device", "auto"],
    "cuda_graph": ["--device", "auto"]}
BASE = {"train_convnet_pytorch": ["--model", "study"]}  # the small net, for tests of one flag that take no minutes
ELSEWHERE = {"data_dir", "output_dir", "resume", "dataset", "compile"}  # flags with tests of their own


# ---------------------------------------------------------------- flags


@pytest.mark.parametrize(("script", "name", "value"), [(s, n, v) for s, flags in FLAGS.items() for n, v in flags.items()])
def test_each_flag(script, name, value, standin, tmp_path):
    out = tmp_path / "run"
    quick = [] if name == "epochs" else QUICK
    base = [] if name == "pixel_scale" else BASE.get(script, [])  # the study net scales its pixels itself
    assert run(script, "--data_dir", standin, *quick, *base, *NEEDED.get(name, []), f"--{name}", value,
               "--output_dir", out) == 0
    saved = json.loads((out / "config.json").read_text())["flags"][name]
    assert ",".join(map(str, saved)) == value if isinstance(saved, list) else type(saved)(value) == saved
    assert json.loads((out / "summary.json").read_text())["test_accuracy"] == float(rows(out)[-1]["accuracy"])


@pytest.mark.parametrize("script", FLAGS)
def test_every_flag_is_tried(script):
    names = {f.name for f in dataclasses.fields(SCRIPTS[script].Config)}
    assert names == set(FLAGS[script]) | (ELSEWHERE & names)


@pytest.mark.parametrize("script", ["train_mlp_numpy", "train_mlp_pytorch"])
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
    *[(s, b) for s in ("train_mlp_numpy", "train_mlp_pytorch") for b in BAD_MLP],
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


@pytest.mark.parametrize(("script", "flag", "units"), [
    *[(script, "--dnn_hidden_units", units) for script in ("train_mlp_numpy", "train_mlp_pytorch")
      for units in (10**12, 9 * 10**18)], ("train_convnet_pytorch", "--fc", 10**12)])
def test_a_network_larger_than_memory_is_one_line(script, flag, units, standin, tmp_path, capsys):
    assert run(script, "--data_dir", standin, *BASE.get(script, []), flag, units, "--output_dir", tmp_path / "r") == 1
    message = capsys.readouterr().err
    assert "out of memory" in message and message.count("\n") == 1


def test_other_errors_are_not_taken_for_it():
    assert machine.out_of_memory(RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB."))
    assert not machine.out_of_memory(ValueError("shapes (2,3) and (2,3) not aligned"))


def test_batch_size_above_the_split(standin, tmp_path, capsys):
    for script in FLAGS:
        assert run(script, "--data_dir", standin, "--batch_size", 2001, "--output_dir", tmp_path / script) == 2
        assert "--batch_size: 2001 is more than the training split's 2000" in capsys.readouterr().err


def test_validation_size_above_the_split(standin, tmp_path, capsys):
    assert run("train_mlp_numpy", "--data_dir", standin, "--validation_size", 2000, "--output_dir", tmp_path / "r") == 2
    assert "validation_size" in capsys.readouterr().err


# ---------------------------------------------------------------- the run folder


@pytest.mark.parametrize("script", ["train_mlp_numpy", "train_mlp_pytorch"])
def test_run_folder(script, standin, tmp_path, capsys):
    out = tmp_path / "run"
    assert run(script, "--data_dir", standin, *QUICK, "--output_dir", out) == 0
    text = capsys.readouterr()
    assert text.out.splitlines()[0].startswith("NOTICE: this trains on the synthetic stand-in")
    assert "step" not in text.err  # no progress bar outside a terminal
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
    (tmp_path / "file").write_text("a file is not a folder")
    assert run("train_mlp_numpy", "--data_dir", standin, *QUICK, "--output_dir", tmp_path / "file" / "run") == 2
    assert "--output_dir: cannot write to" in capsys.readouterr().err


def test_two_runs_in_one_folder(standin, tmp_path, capsys, monkeypatch):
    """A second run that starts while the first is at work is refused, and the first is not disturbed."""
    out = tmp_path / "run"
    base = ["--data_dir", standin, *QUICK]
    status = []
    real = cifar10_utils.DataSet.next_indices

    def next_indices(self, size):
        if not status:
            status.append(None)
            status[0] = run("train_mlp_numpy", *base, "--resume", out, "--output_dir", out)
        return real(self, size)

    monkeypatch.setattr(cifar10_utils.DataSet, "next_indices", next_indices)
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
    scripts = ["train_mlp_numpy", "train_mlp_pytorch"]
    for script in scripts:
        assert run(script, "--data_dir", standin, *QUICK, "--output_dir", tmp_path / script) == 0
    out = tmp_path / "both"
    folders = [str(tmp_path / script) for script in scripts]
    assert plot_curves.main([*folders, "--labels", "NumPy", "PyTorch", "--out", str(out)]) == 0
    assert out.with_suffix(".png").stat().st_size > 10_000
    assert out.with_suffix(".svg").exists()
    assert plot_curves.main([folders[0], "--out", str(tmp_path / "one.png")]) == 0
    assert {path.name for path in tmp_path.glob("one*")} == {"one.png", "one.svg"}
    for bad in ([str(tmp_path)], [folders[0], "--labels", "a", "b"]):
        with pytest.raises(SystemExit) as stop:
            plot_curves.main(bad)
        assert stop.value.code == 2


def test_plot_curves_refuses_a_folder_of_repeats(tmp_path, capsys):
    assert training.script.run_script(train_mlp_autodiff.Config, train_mlp_autodiff.train, "", [
        "--dataset", "synth", "--epochs", "1", "--repeats", "2", "--batch_size", "1000", "--output_dir",
        str(tmp_path / "run")]) == 0
    capsys.readouterr()
    with pytest.raises(SystemExit):
        plot_curves.main([str(tmp_path / "run"), "--out", str(tmp_path / "picture")])
    assert "holds several repeats" in capsys.readouterr().err
    assert plot_curves.main([str(tmp_path / "run/relu-2"), "--out", str(tmp_path / "picture")]) == 0


def test_max_steps_on_the_command_line_overrides_epochs_elsewhere():
    config = train_mlp_pytorch.Config
    assert parse_flags(config, "", ["--recipe", "best-mlp"]).epochs > 0
    assert parse_flags(config, "", ["--recipe", "best-mlp", "--max_steps", "2"]).epochs == 0
    with pytest.raises(UserError, match="--max_steps has no effect: it needs --epochs 0"):
        parse_flags(config, "", ["--max_steps", "2", "--epochs", "3"])


IDLE = [  # a flag without effect, and what it needs
    (train_mlp_numpy, "--epochs 3 --max_steps 9", "--max_steps", "--epochs 0"),
    (train_mlp_numpy, "--epochs 3 --eval_freq 9", "--eval_freq", "--epochs 0"),
    (train_mlp_numpy, "--dnn_hidden_units= --activation relu", "--activation", "--dnn_hidden_units"),
    (train_mlp_pytorch, "--optimizer adam --momentum 0.9", "--momentum", "--optimizer sgd|nesterov|rmsprop|muon"),
    (train_mlp_pytorch, "--expansion 4", "--expansion", "--blocks"),
    (train_mlp_pytorch, "--blocks 2 --weight_std 0.01", "--weight_std", "--blocks 0"),
    (train_mlp_pytorch, "--norm_before linear", "--norm_before", "--normalization layer|"),
    (train_mlp_pytorch, "--dnn_hidden_units= --normalization layer", "--normalization", "--dnn_hidden_units or"),
    (train_mlp_pytorch, "--dnn_hidden_units= --dropout 0.5", "--dropout", "--dnn_hidden_units"),
    (train_convnet_pytorch, "--fc 9", "--fc", "--model study"),
    (train_convnet_pytorch, "--activation tanh", "--activation", "--model study and --fc"),
    (train_convnet_pytorch, "--model study --fc= --dropout 0.5", "--dropout", "--model study and --fc"),
    (train_convnet_pytorch, "--model study --eval_freq 9", "--eval_freq", "--epochs 0"),  # it counts in epochs
    (train_convnet_pytorch, "--momentum 0.5", "--momentum", "--optimizer"),
    (train_transfer_pytorch, "--freeze backbone --flip on", "--flip", "--freeze none"),
    (train_transfer_pytorch, "--freeze backbone --shift 2", "--shift", "--freeze none"),
    (train_transfer_pytorch, "--freeze backbone --flip_average on", "--flip_average", "--freeze none"),
    (train_transfer_pytorch, "--freeze backbone --linear_probe 3", "--linear_probe", "--freeze none"),
    (train_transfer_pytorch, "--freeze backbone --head_lr_factor 3", "--head_lr_factor", "--freeze none"),
    (train_transfer_pytorch, "--freeze backbone --unfreeze_from layer4", "--unfreeze_from", "--freeze none"),
    (train_mlp_autodiff, "--dataset synth --data_dir x", "--data_dir", "--dataset cifar10|mnist"),
    (search_mlp_pytorch, "--sampler tpe --population 5", "--population", "--sampler evolution"),
]


@pytest.mark.parametrize(("script", "flags", "name", "needs"), IDLE)
def test_a_flag_without_effect_is_refused(script, flags, name, needs, capsys):
    def train(config):
        raise AssertionError("it trains")

    assert training.script.run_script(script.Config, train, "", flags.split()) == 2
    message = capsys.readouterr().err
    assert f"{name} has no effect: it needs {needs}" in message and message.count("\n") == 1


@pytest.mark.parametrize("script", [*SCRIPTS.values(), train_transfer_pytorch, train_mlp_autodiff, search_mlp_pytorch])
def test_what_a_flag_needs_are_flags_and_values_of_its_script(script, capsys):
    fields = {f.name: f for f in dataclasses.fields(script.Config)}
    for f in fields.values():
        for condition in filter(None, re.split(" and | or ", f.metadata["needs"])):
            name, _, values = condition.removeprefix("--").partition(" ")
            choices = fields[name].metadata["choices"]
            assert set(values.split("|")) - {""} <= set(choices or {"0"})
        assert f.metadata["group"] in training.flags.GROUPS
    with pytest.raises(SystemExit):
        training.script.run_script(script.Config, lambda config: {}, "", ["--help"])
    said = re.sub(r"\s+", " ", re.sub(r"-\s+(?=\w)", "-", capsys.readouterr().out))
    for f in fields.values():  # argparse breaks lines, within a long word, too
        assert f.metadata["needs"].replace(" ", "") in said.replace(" ", "")


def test_asking_for_nothing_is_not_refused():
    train_mlp_pytorch.Config(blocks=2, weight_std=0)  # which is what blocks have
    train_convnet_pytorch.Config(model="study", optimizer="adam", momentum=0)
    assert train_transfer_pytorch.Config(freeze="backbone", linear_probe=0).flip == "off"
    assert train_transfer_pytorch.Config().flip == "on"


def test_a_recipes_flag_that_the_command_line_makes_idle_is_left_out_with_a_notice(tmp_path, capsys):
    config = train_mlp_pytorch.Config
    used = parse_flags(config, "", ["--recipe", "best-mlp", "--optimizer", "adamw", "--blocks", "0"])
    assert (used.momentum, used.expansion, used.blocks) == (0.0, 2, 0)
    notices = capsys.readouterr().out.splitlines()
    assert sorted(notices) == ["NOTICE: --expansion of the recipe is left out: it needs --blocks.",
                               f"NOTICE: --momentum of the recipe is left out: it needs "
                               f"--optimizer {'|'.join(training.optimizers.WITH_MOMENTUM)}."]
    path = tmp_path / "idle.toml"
    path.write_text('script = "train_mlp_pytorch"\n[flags]\nexpansion = 4\n')
    for more in ([], ["--optimizer", "adam"]):  # its own mistake
        with pytest.raises(UserError, match="--expansion has no effect"):
            parse_flags(config, "", ["--recipe", str(path), *more])
    assert parse_flags(config, "", ["--recipe", str(path), "--blocks", "2"]).expansion == 4


def test_a_saved_run_whose_flags_did_nothing_is_resumed(standin, tmp_path):
    """Runs from before such flags were refused."""
    out = tmp_path / "run"
    assert run("train_mlp_pytorch", "--data_dir", standin, *QUICK, "--optimizer", "adam", "--output_dir", out) == 0
    config = json.loads((out / "config.json").read_text())
    config["flags"]["momentum"] = 0.9
    (out / "config.json").write_text(json.dumps(config))
    checkpoint = load_torch(out / "last.pt")
    checkpoint["flags"]["momentum"] = 0.9
    torch.save(checkpoint, out / "last.pt")
    assert run("train_mlp_pytorch", "--resume", out, "--max_steps", 6) == 0


def test_a_negative_number_is_told_what_is_wrong_with_it(capsys):
    for value in ("-1e-3", "-.5", "-inf", "-3"):
        assert run("train_mlp_numpy", "--learning_rate", value) == 2
        assert f"--learning_rate: '{value}' is not a finite number above 0" in capsys.readouterr().err


@pytest.mark.parametrize("script, flags, message", [
    (train_convnet_pytorch, dict(batch_size=1), "--batch_size: batch normalization"),
    (train_mlp_pytorch, dict(batch_size=1, normalization="batch_torch"), "--batch_size: batch normalization"),
    (train_mlp_pytorch, dict(validation_size=1, normalization="batch"), "--validation_size: our batch normalization"),
    (train_mlp_pytorch, dict(mixup=0.001), "--mixup: 0.001 is below 0.01"),
    (train_mlp_autodiff, dict(seed=2**32 - 2, repeats=3), "--seed: the last of 3 repeats"),
])
def test_flags_that_do_not_go_together(script, flags, message):
    with pytest.raises(UserError, match=message):
        script.Config(**flags)


def test_the_last_image_is_not_alone_in_its_batch():
    """Our BatchNorm has the statistics of batches alone, in evaluation, too."""
    images, labels = np.random.default_rng(0).normal(size=(501, 3, 1, 1)).astype(np.float32), np.zeros(501, np.int64)
    net = nn.Sequential(nn.Flatten(), CustomBatchNormManualModule(3))
    loss, _ = training_pytorch.evaluate(net, cifar10_utils.DataSet(images, labels), torch.device("cpu"))
    assert np.isfinite(loss)


@pytest.mark.parametrize("value, threads", [("3", 3), ("2,1", 2), ("", os.cpu_count())])
def test_the_number_of_threads_is_recorded(value, threads, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", value)
    assert machine.describe_machine()["machine"]["threads"] == threads
