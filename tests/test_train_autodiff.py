"""Sigmoid against ReLU as a user meets it: flags, what a run leaves, resume, Ctrl-C, bad input."""

import csv
import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import matplotlib.figure
import numpy as np
import pytest
from test_resume import interrupt_at

import train_mlp_autodiff
import training.checkpoints
import training.curves
import training.script
from cifar10_utils import DataSet
from train_mlp_autodiff import Config, OneHiddenLayer, evaluate, load_data, make_synth, train_step

pytestmark = pytest.mark.systems
ROOT = Path(__file__).parent.parent
QUICK = {"dataset": "synth", "validation_size": 100, "epochs": 2, "repeats": 1, "batch_size": 100,
         "dnn_hidden_units": 5}
COLUMNS = ["repeat", "activation", "epoch", "step", "split", "loss", "accuracy", "learning_rate", "seconds", "images_per_second"]


@pytest.fixture(autouse=True)
def small_synth(monkeypatch):
    monkeypatch.setattr(train_mlp_autodiff, "SYNTH_TRAIN", 450)
    monkeypatch.setattr(train_mlp_autodiff, "SYNTH_TEST", 50)


@pytest.fixture
def no_pictures(monkeypatch):
    """They take longer than these trainings, and have tests of their own."""
    monkeypatch.setattr(training.curves, "plot_curves", lambda *_: None)
    monkeypatch.setattr(train_mlp_autodiff, "plot", lambda *_: None)


def run(**flags: object) -> int:
    argv = [text for name, value in flags.items() for text in (f"--{name}", str(value))]
    return training.script.run_script(Config, train_mlp_autodiff.train, train_mlp_autodiff.__doc__, argv)


def quick(**flags: object) -> int:
    return run(**(QUICK | flags))


def rows(folder: Path) -> list[dict[str, str]]:
    with open(folder / "metrics.csv", newline="") as file:
        return list(csv.DictReader(file))


def assert_same_run(one: Path, other: Path) -> None:
    """Metrics, but for the clock, and every final weight."""
    untimed = [[{c: row[c] for c in COLUMNS[:7]} for row in rows(folder)] for folder in (one, other)]
    assert untimed[0] == untimed[1]
    checkpoints = sorted(path.relative_to(one) for path in one.glob("*/last.npz"))
    assert checkpoints
    for path in checkpoints:
        first, second = (training.checkpoints.NPZ.load(folder / path)["state"] for folder in (one, other))
        assert first["batches"] == second["batches"]
        for ours, theirs in zip(first["params"].values(), second["params"].values(), strict=True):
            np.testing.assert_array_equal(ours, theirs, err_msg=str(path))


# ---------------------------------------------------------------- what a run leaves


def test_what_a_run_leaves(tmp_path, capsys):
    out = tmp_path / "run"
    assert quick(output_dir=out, repeats=2, epochs=3) == 0
    assert capsys.readouterr().out.startswith("sigmoid, repeat 1 of 2\n")
    assert {path.name for path in out.iterdir()} - {".lock"} == {
        "config.json", "metrics.csv", "summary.json", "curves.png", "curves.svg",
        "relu-1", "relu-2", "sigmoid-1", "sigmoid-2"}
    config = json.loads((out / "config.json").read_text())
    assert (config["script"], config["data"], config["flags"]["repeats"]) == ("train_mlp_autodiff", "generated", 2)

    table = rows(out)
    assert list(table[0]) == COLUMNS
    splits = [(row["split"], int(row["epoch"])) for row in table if row["repeat"] == "2" and row["activation"] == "relu"]
    assert splits == [("train", 1), ("validation", 1), ("train", 2), ("validation", 2), ("train", 3), ("validation", 3),
                      ("test", 3)]

    summary = json.loads((out / "summary.json").read_text())
    for activation in ("sigmoid", "relu"):
        for split in ("validation", "test"):
            last = [float(row["accuracy"]) for row in table
                    if (row["activation"], row["split"], row["epoch"]) == (activation, split, "3")]
            assert len(last) == 2
            assert summary[f"{activation}_{split}_accuracy"] == pytest.approx(np.mean(last))
            assert summary[f"{activation}_{split}_std"] == pytest.approx(np.std(last, ddof=1))
    best = max(("sigmoid", "relu"), key=lambda a: summary[f"{a}_validation_accuracy"])
    assert (summary["activation"], summary["test_accuracy"]) == (best, summary[f"{best}_test_accuracy"])
    assert summary["parameters"] == 2 * 5 + 5 + 5 * 2 + 2
    assert summary["steps"] == 11 and summary["repeats"] == 2  # 3 epochs of 350 samples, 100 a step


def test_the_figure_shows_mean_and_standard_deviation(tmp_path, monkeypatch):
    (tmp_path / "config.json").write_text(json.dumps({"data": "generated", "data_name": "points"}))
    accuracies = {"sigmoid": {1: [0.5, 0.7], 2: [0.6, 0.8]}, "relu": {1: [0.8, 0.9], 2: [0.9, 0.9]}}
    table = [dict(repeat=repeat + 1, activation=activation, epoch=epoch, split=split, loss=1 - value, accuracy=value)
             for activation, by_epoch in accuracies.items() for epoch, values in by_epoch.items()
             for repeat, value in enumerate(values) for split in ("train", "validation", "test")[: epoch + 1]]
    figures = []
    monkeypatch.setattr(matplotlib.figure.Figure, "savefig", lambda figure, file, **_: figures.append(figure))
    train_mlp_autodiff.plot(tmp_path, table)
    assert {path.name for path in tmp_path.glob("curves.*")} == {"curves.png", "curves.svg"} and len(figures) == 2
    figure = figures[0]
    assert "points" in figure.get_suptitle() and "2 repeats" in figure.get_suptitle()
    for axis, key in zip(figure.axes, ("loss", "accuracy"), strict=True):
        for line, band, (activation, by_epoch) in zip(axis.lines, axis.collections, accuracies.items(), strict=True):
            values = np.array(list(by_epoch.values()))
            values = 1 - values if key == "loss" else values
            mean, std = values.mean(1), values.std(1, ddof=1)
            assert line.get_label() == activation
            np.testing.assert_allclose(line.get_xydata(), np.stack([[1, 2], mean], 1))
            corners = band.get_paths()[0].vertices
            for epoch, m, s in zip((1, 2), mean, std, strict=True):
                at = corners[corners[:, 0] == epoch, 1]
                np.testing.assert_allclose([at.min(), at.max()], [m - s, m + s])


def test_the_test_split_is_read_once_a_repeat(tmp_path, monkeypatch, no_pictures):
    read = []
    monkeypatch.setattr(train_mlp_autodiff, "evaluate",
                        lambda model, split: (read.append(split.num_examples), evaluate(model, split))[1])
    assert quick(output_dir=tmp_path / "run", repeats=2, epochs=3) == 0
    assert read == [100, 100, 100, 50] * 4  # validation after each epoch, then test


def test_both_activations_start_alike(tmp_path, no_pictures):
    """From the same weights, with the same batches, so that only the activation differs."""
    nets = [OneHiddenLayer(4, 3, 2, activation, np.random.default_rng(5)) for activation in ("relu", "sigmoid")]
    for one, other in zip(*(net.parameters for net in nets), strict=True):
        np.testing.assert_array_equal(one.value, other.value)
        assert one.value.dtype == np.float32
    assert quick(output_dir=tmp_path / "run", epochs=1) == 0
    batches = [training.checkpoints.NPZ.load(tmp_path / "run" / f"{name}-1" / "last.npz")["state"]["batches"]
               for name in ("relu", "sigmoid")]
    assert batches[0] == batches[1]


def test_repeats_differ_in_weights_and_batches(tmp_path, no_pictures):
    assert quick(output_dir=tmp_path / "run", repeats=2, activation="relu", learning_rate=1e-12) == 0
    first, second = (training.checkpoints.NPZ.load(tmp_path / "run" / f"relu-{n}" / "last.npz")["state"] for n in (1, 2))
    assert first["batches"] != second["batches"]
    assert not np.allclose(first["params"]["w1"], second["params"]["w1"])


# ---------------------------------------------------------------- learning


def test_initial_weights_and_loss():
    net = OneHiddenLayer(784, 300, 10, "relu", np.random.default_rng(0))
    for weight, fan_in in ((net.w1, 784), (net.w2, 300)):
        assert abs(weight.value.std() * fan_in**0.5 - 1) < 0.02
    net.w2.value *= 0
    x = np.random.default_rng(1).standard_normal((50, 1, 28, 28)).astype(np.float32)
    assert float(net(x).nll_loss(np.arange(50) % 10).value) == pytest.approx(np.log(10), rel=1e-6)


@pytest.mark.parametrize("activation", ["sigmoid", "relu"])
def test_fifty_images_are_learned_by_heart(activation):
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((50, 1, 28, 28)).astype(np.float32), rng.integers(0, 10, 50)
    net = OneHiddenLayer(784, 100, 10, activation, rng)
    for _ in range(100):
        loss, correct = train_step(net, x, y, 0.5)
    assert correct == 1 and loss < 0.1
    assert all(not parameter.grad.any() for parameter in net.parameters)  # cleared for the next step


def test_evaluation_counts_every_sample_once(monkeypatch):
    monkeypatch.setattr(train_mlp_autodiff, "EVALUATION_BATCH", 30)  # 100 samples: three full batches and a rest
    data = make_synth(100, 0)
    net = OneHiddenLayer(2, 5, 2, "relu", np.random.default_rng(0))
    log_probabilities = net(data.validation.images).value
    loss, correct = evaluate(net, data.validation)
    assert loss == pytest.approx(-log_probabilities[np.arange(100), data.validation.labels].mean(), rel=1e-5)
    assert correct == pytest.approx((log_probabilities.argmax(1) == data.validation.labels).mean())


def test_synth_is_learned(tmp_path, monkeypatch, no_pictures):
    monkeypatch.setattr(train_mlp_autodiff, "SYNTH_TRAIN", 6000)
    monkeypatch.setattr(train_mlp_autodiff, "SYNTH_TEST", 1000)
    out = tmp_path / "run"
    assert quick(output_dir=out, activation="relu", epochs=6, batch_size=20, validation_size=1000, dnn_hidden_units=30) == 0
    assert json.loads((out / "summary.json").read_text())["validation_accuracy"] > 0.95


def test_synth_splits():
    one, other = make_synth(100, seed=1), make_synth(100, seed=2)
    assert [one[split].num_examples for split in one.keys()] == [350, 100, 50]  # noqa: SIM118
    points = np.concatenate([one[split].images for split in ("train", "validation", "test")])
    assert len(np.unique(points.reshape(-1, 2), axis=0)) == 500
    for split in ("train", "validation", "test"):
        np.testing.assert_array_equal(one[split].images, other[split].images)
        assert 0.35 < one[split].labels.mean() < 0.65
    assert not np.array_equal(one.train.next_batch(20)[0], other.train.next_batch(20)[0])


@pytest.mark.real_data
@pytest.mark.slow
def test_mnist_after_one_epoch(tmp_path, no_pictures):
    if not os.environ.get("MNIST_DIR"):
        pytest.skip("MNIST_DIR is not set")
    out = tmp_path / "run"
    assert run(data_dir=os.environ["MNIST_DIR"], epochs=1, repeats=1, activation="relu", output_dir=out) == 0
    assert json.loads((out / "summary.json").read_text())["validation_accuracy"] > 0.95


def test_torch_is_never_imported(tmp_path):
    code = ("import sys, train_mlp_autodiff as t\nt.SYNTH_TRAIN = 300\n"
            "t.train(t.Config(dataset='synth', validation_size=100, epochs=1, repeats=1, activation='relu', "
            f"output_dir={str(tmp_path / 'run')!r}))\nprint('torch' in sys.modules)")
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout.splitlines()[-1:] == ["False"], done.stderr


# ---------------------------------------------------------------- flags

FLAGS = {"dataset": "synth", "activation": "relu", "dnn_hidden_units": 7, "epochs": 1, "repeats": 2,
         "learning_rate": 0.2, "batch_size": 50, "validation_size": 150, "seed": 7, "eval_images": 20, "eval_at_start": "on",
         "tensorboard": "on"}


@pytest.mark.parametrize("name", FLAGS)
def test_each_flag(name, tmp_path, no_pictures):
    assert quick(output_dir=tmp_path / "base") == 0
    assert quick(output_dir=tmp_path / "run", **{name: FLAGS[name]}) == 0
    assert json.loads((tmp_path / "run" / "config.json").read_text())["flags"][name] == FLAGS[name]
    changed = [[{c: row[c] for c in COLUMNS[:7]} for row in rows(tmp_path / f)] for f in ("base", "run")]
    assert (changed[0] == changed[1]) == (name in ("dataset", "tensorboard"))  # base is on synth, too


def test_every_flag_is_tried_and_explained(capsys):
    names = {field.name for field in dataclasses.fields(Config)}
    assert names == {*FLAGS, "data_dir", "output_dir", "resume"}
    with pytest.raises(SystemExit) as stop:
        training.script.run_script(Config, train_mlp_autodiff.train, train_mlp_autodiff.__doc__, ["--help"])
    text = capsys.readouterr().out
    assert stop.value.code == 0
    assert all(f"--{name} " in text for name in names) and text.count("(default:") == len(names)


@pytest.mark.parametrize(("name", "value"), [
    ("epochs", 0), ("epochs", "two"), ("repeats", 0), ("repeats", -1), ("repeats", 1.5), ("learning_rate", 0),
    ("learning_rate", "nan"), ("batch_size", 0), ("batch_size", 351), ("dnn_hidden_units", 0),
    ("dnn_hidden_units", "10,10"), ("validation_size", 0), ("validation_size", 450), ("seed", -1), ("activation", "elu"),
    ("dataset", "imagenet"), ("resume", "/no/such/run"), ("output_dir", "/proc/nowhere"), ("hidden", 5),
])
def test_bad_flags_are_one_line_and_exit_2(name, value, tmp_path, capsys):
    try:
        status = quick(**{"output_dir": tmp_path / "run", name: value})
    except SystemExit as stop:
        status = stop.code
    message = capsys.readouterr().err
    assert status == 2
    assert name in message and message.count("\n") == 1 and "Traceback" not in message
    assert not (tmp_path / "run" / "config.json").exists()


def write_mnist(folder: Path) -> None:
    rng = np.random.default_rng(0)
    folder.mkdir()
    for part, n in (("train", 200), ("t10k", 50)):
        for kind, magic, shape, top in (("images-idx3", 2051, (n, 28, 28), 256), ("labels-idx1", 2049, (n,), 10)):
            content = np.array([magic, *shape], ">i4").tobytes() + rng.integers(0, top, shape, np.uint8).tobytes()
            (folder / f"{part}-{kind}-ubyte").write_bytes(content)


def test_mnist_files(tmp_path, no_pictures, capsys):
    write_mnist(tmp_path / "mnist")
    flags = dict(dataset="mnist", data_dir=tmp_path / "mnist", batch_size=20)
    assert quick(output_dir=tmp_path / "run", **flags) == 0
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["parameters"] == 785 * 5 + 6 * 10
    config = Config(dataset="mnist", data_dir=str(tmp_path / "mnist"), validation_size=100)
    assert load_data(config, 0).train.labels.shape == (100,)

    (tmp_path / "mnist" / "train-images-idx3-ubyte").write_bytes(b"\0" * 99)
    capsys.readouterr()
    assert quick(output_dir=tmp_path / "other", **flags) == 2
    message = capsys.readouterr().err
    assert "train-images-idx3-ubyte" in message and "Traceback" not in message


# ---------------------------------------------------------------- resume


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """A run of two repeats that nothing interrupts."""
    out = tmp_path_factory.mktemp("whole") / "run"
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (("SYNTH_TRAIN", 450), ("SYNTH_TEST", 50), ("plot", lambda *_: None)):
            patch.setattr(train_mlp_autodiff, name, value)
        patch.setattr(training.curves, "plot_curves", lambda *_: None)
        assert quick(output_dir=out, repeats=2) == 0
    return out


# A net takes 7 batches here, 3 evaluations; four of them are trained.
@pytest.mark.parametrize(("name", "call"), [("next_batch", 1), ("next_batch", 4), ("next_batch", 7), ("next_batch", 8),
                                            ("next_batch", 17), ("batches", 1), ("batches", 5), ("batches", 6),
                                            ("batches", 11)])
def test_resume_continues_bit_for_bit(name, call, whole, tmp_path, monkeypatch, no_pictures, capsys):
    out = tmp_path / "cut"
    with monkeypatch.context() as patch:
        interrupt_at(patch, DataSet, name, call, signal.SIGINT)
        assert quick(output_dir=out, repeats=2) == 130
    message = capsys.readouterr().err
    assert f"--resume {out}\n" in message and message.count("\n") == 1
    assert (out / "metrics.csv").exists() and not (out / "summary.json").exists()
    assert run(resume=out) == 0
    assert_same_run(whole, out)


def test_an_interrupt_leaves_the_curves_so_far(tmp_path, monkeypatch):
    for call, drawn in ((1, False), (9, True)):  # in the first batch, in the second repeat
        out = tmp_path / str(call)
        with monkeypatch.context() as patch:
            interrupt_at(patch, DataSet, "next_batch", call, signal.SIGINT)
            assert quick(output_dir=out, repeats=2) == 130
        assert (out / "curves.png").exists() == (out / "curves.svg").exists() == drawn


def test_sigterm_saves_too(whole, tmp_path, monkeypatch, no_pictures):
    with monkeypatch.context() as patch:
        interrupt_at(patch, DataSet, "next_batch", 10, signal.SIGTERM)
        assert quick(output_dir=tmp_path / "cut", repeats=2) == 128 + signal.SIGTERM
    assert run(resume=tmp_path / "cut") == 0
    assert_same_run(whole, tmp_path / "cut")


def test_finished_repeats_are_not_repeated(whole, tmp_path, monkeypatch, no_pictures):
    out = tmp_path / "run"
    shutil.copytree(whole, out)
    shutil.rmtree(out / "relu-2")  # as if it had not begun
    (out / "relu-1" / "last.npz").unlink()  # finished, so never looked at again
    steps = []
    monkeypatch.setattr(train_mlp_autodiff, "train_step",
                        lambda model, *args: (steps.append(model.activation), train_step(model, *args))[1])
    assert run(resume=out) == 0
    assert steps == ["relu"] * 7
    assert run(resume=out) == 0
    assert len(steps) == 7
    shutil.copy(whole / "relu-1" / "last.npz", out / "relu-1")
    assert_same_run(whole, out)


def test_a_repeat_killed_before_its_first_checkpoint_starts_anew(whole, tmp_path, no_pictures):
    out = tmp_path / "run"
    shutil.copytree(whole, out)
    for name in ("last.npz", "best.npz", "summary.json"):
        (out / "sigmoid-2" / name).unlink()
    assert run(resume=out) == 0
    assert_same_run(whole, out)


@pytest.mark.parametrize("damage", ["one repeat", "foreign", "changed flag", "summary", "checkpoint", "folder"])
def test_what_cannot_be_resumed(damage, whole, tmp_path, no_pictures, capsys):
    out, flags = tmp_path / "run", {}
    shutil.copytree(whole, out)
    resume = out
    if damage == "one repeat":
        resume, expected = out / "relu-1", f"--resume {out}"
    elif damage == "foreign":
        (out / "config.json").write_text(json.dumps({"script": "train_mlp_numpy", "flags": {"max_steps": 5}}))
        expected = "not of this script"
    elif damage == "changed flag":
        flags, expected = {"epochs": 9}, "--epochs"
    elif damage == "summary":
        (out / "relu-2" / "summary.json").write_text("{")
        expected = "relu-2 is damaged; delete it"
    elif damage == "checkpoint":
        (out / "relu-2" / "summary.json").unlink()
        (out / "relu-2" / "last.npz").write_bytes(b"garbage")
        expected = "relu-2"
    else:
        flags, expected = {"output_dir": tmp_path / "other"}, "--output_dir"
    capsys.readouterr()
    assert run(resume=resume, **flags) == 2
    message = capsys.readouterr().err
    assert expected in message and message.count("\n") == 1 and "Traceback" not in message


def test_a_used_folder_is_refused(whole, tmp_path, capsys):
    before = rows(whole)
    assert quick(output_dir=whole) == 2
    error = capsys.readouterr().err
    assert "already holds a run" in error and error.endswith(f"choose another folder, or continue with --resume {whole}\n")
    assert rows(whole) == before
    (tmp_path / "killed").mkdir()
    shutil.copy(whole / "config.json", tmp_path / "killed")
    assert quick(output_dir=tmp_path / "killed") == 2
    assert capsys.readouterr().err.endswith("choose another folder, or remove that one, which has no checkpoint yet\n")


def test_a_disk_that_is_full_at_a_later_repeat_is_continued_with_all_of_them(whole, tmp_path, no_pictures, monkeypatch, capsys):
    def opened(path, *arguments, **more):
        if Path(path).parts[-2:] == ("relu-1", ".last.npz.part"):
            raise OSError(28, "No space left on device", str(path))
        return open(path, *arguments, **more)

    out = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(training.checkpoints, "open", opened, raising=False)
        assert quick(output_dir=out, repeats=2) == 1
    error = capsys.readouterr().err
    assert "No space left" in error and error.endswith(f"continue with --resume {out}\n") and error.count("\n") == 1
    assert run(resume=out) == 0
    assert_same_run(whole, out)


def test_divergence_is_exit_3(tmp_path, no_pictures, capsys):
    assert quick(output_dir=tmp_path / "run", activation="relu", learning_rate=1e20, epochs=9) == 3
    message = capsys.readouterr().err
    assert "--learning_rate" in message and message.count("\n") == 1
