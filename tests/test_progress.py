"""What a run shows while it trains, what it shows at its end, and what it leaves when it ends early."""

import fcntl
import functools
import json
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path

import numpy as np
import pytest
import torch
from cifar10_folders import write_batches
from script_runs import QUICK, ROOT, SCRIPTS, assert_same_run, interrupt_at, rows, run, untimed

import cifar10_utils
import train_mlp_numpy
import training.checkpoints
import training.console
import training.run
from training.trainer import load_torch

pytestmark = pytest.mark.training


def summary_of(folder: Path) -> dict:
    return json.loads((folder / "summary.json").read_text())


def on_a_terminal(*command: object, columns: int = 100) -> str:
    """What a command that succeeds writes to a terminal of so many columns; its output is read elsewhere."""
    terminal, child = pty.openpty()
    fcntl.ioctl(child, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))  # a new one has no width
    process = subprocess.Popen([sys.executable, *map(str, command)], cwd=ROOT, stderr=child, stdout=subprocess.DEVNULL)
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
    assert process.wait() == 0, shown
    return shown.decode()


# ---------------------------------------------------------------- bars


@pytest.mark.parametrize("script", ["train_mlp_numpy", "train_mlp_pytorch"])
def test_bars_on_a_terminal(script, standin, tmp_path):
    """Slow steps and slow evaluations: each has a bar that says how far it is and how long it takes."""
    slow = ("import sys, time\nfrom cifar10_utils import DataSet\n"
            "def slowly(real):\n def wrapper(*a):\n  time.sleep(0.15)\n  return real(*a)\n return wrapper\n"
            "DataSet._as_float = slowly(DataSet._as_float)\n"
            f"import {script} as s\ns.EVALUATION_BATCH = 80\n"
            "s.train(s.Config(data_dir=sys.argv[1], output_dir=sys.argv[2], max_steps=4, batch_size=20, eval_freq=2))")
    if script == "train_mlp_pytorch":
        slow = slow.replace("s.EVALUATION_BATCH = 80", "from training import trainer\nreal = trainer.evaluate\n"
                            "trainer.evaluate = lambda m, s, d, p: real(m, s, d, p, 80)\n"
                            "from training.images import Images\nImages._as_float = slowly(Images._as_float)")
    shown = on_a_terminal("-c", slow, standin, tmp_path / "r")
    assert re.search(r"step 3/4, 00:0\d left, loss 2\.\d{4}, learning rate 0\.001", shown), shown
    evaluating = re.findall(r"evaluating test (\d+)%\|[^|]*\|(\d\d:\d\d|\?) left", shown)
    assert "step 0/4, ? left" in shown and any(0 < int(done) < 100 for done, _ in evaluating), shown
    assert any(left != "?" for _, left in evaluating)


@pytest.mark.parametrize("columns", [12, 20, 36, 40, 46, 66])
def test_a_narrow_bar_leaves_out_what_does_not_fit(columns, standin, tmp_path):
    code = ("import sys, train_mlp_numpy as s\nimport training.console\ntraining.console.StepBar.mininterval = 0\n"
            "s.train(s.Config(data_dir=sys.argv[1], output_dir=sys.argv[2], max_steps=40, batch_size=2, eval_freq=40))")
    shown = on_a_terminal("-c", code, standin, tmp_path / "r", columns=columns)
    bars = [re.sub(r"^ *\d+%\|[^|]*\| ?", "", bar) for bar in re.split(r"[\r\n]+", shown) if re.match(r" *\d+%\|", bar)]
    parts = [r"step \d+/40", r"(\?|[\d:]+) left", r"loss \d+\.\d{4}", r"learning rate 0\.001"]
    whole = "(" + "|".join(", ".join(parts[:count]) for count in range(5)) + ")"
    assert bars and all(re.fullmatch(whole, bar.rstrip()) for bar in bars), bars
    assert {12: "step" not in shown, 20: "step" not in shown or "left" not in shown, 40: "loss" not in shown}.get(columns, True)
    assert columns < 46 or re.search(r"loss \d\.\d{4}", shown)


def test_the_bar_of_an_evaluation_fits_into_40_columns():
    code = ("import time, numpy as np\nfrom cifar10_utils import DataSet\nfrom training.console import ShownSplit\n"
            "whole = DataSet(np.zeros((100, 1, 1, 1), np.float32), np.zeros(100, np.int64))\n"
            "for _ in ShownSplit(whole, 0, 'validation', False).batches(10):\n time.sleep(0.15)")
    bars = re.findall(r"evaluating[^\r\n]*", on_a_terminal("-c", code, columns=40))
    assert bars and all(re.fullmatch(r"evaluating validation \d+%\|[^|]*\|[\d:?]+ left *", bar) for bar in bars), bars


def test_a_long_evaluation_tells_a_log_what_is_left(tmp_path, capsys, monkeypatch):
    """20 images a second, on a clock of our own, where standard error is not a terminal."""
    now = [0.0]
    monkeypatch.setattr(training.console.time, "perf_counter", lambda: now[0])

    def said(images: int, silent: bool = False) -> list[str]:
        split = cifar10_utils.DataSet(np.zeros((images, 1, 1, 1), np.float32), np.zeros(images, np.int64))
        for _, labels in training.console.ShownSplit(split, 0, "test", silent).batches(50):
            now[0] += len(labels) / 20
        captured = capsys.readouterr()
        assert not captured.out
        return captured.err.splitlines()

    assert said(1500) == ["evaluating test: 50 of 1500 images, 01:12 left", "evaluating test: 650 of 1500 images, 00:42 left",
                          "evaluating test: 1250 of 1500 images, 00:12 left"]
    assert said(200) == said(50) == said(2000, silent=True) == []


def test_a_long_evaluation_of_a_script_tells_a_log_what_is_left(standin, tmp_path):
    code = ("import sys, time\nimport training.console as console, train_mlp_numpy as s\n"
            "console.SOON, console.LONG, console.PERIOD = 0.1, 0.3, 0.1\ns.EVALUATION_BATCH = 50\nreal = s.MLP.forward\n"
            "s.MLP.forward = lambda self, x: time.sleep(0.06) or real(self, x)\n"
            "s.train(s.Config(data_dir=sys.argv[1], output_dir=sys.argv[2], max_steps=1, batch_size=20))")
    done = subprocess.run([sys.executable, "-c", code, standin, tmp_path / "r"], cwd=ROOT, capture_output=True, text=True, check=True)
    lines = done.stderr.splitlines()
    assert len(lines) > 1 and all(re.fullmatch(r"evaluating test: \d+ of 400 images, 00:\d\d left", line) for line in lines), lines


@pytest.mark.parametrize("flags", [dict(max_steps=7, eval_freq=2), dict(max_steps=8, eval_freq=2), dict(epochs=3), dict(max_steps=3),
                                   dict(epochs=2, validation_size=100), dict(max_steps=7, eval_images=50, validation_size=100)])
@pytest.mark.parametrize("batch_size", [600, 700])
def test_images_still_to_be_evaluated(flags, batch_size, standin):
    config = train_mlp_numpy.Config(**flags, batch_size=batch_size)
    plan = training.run.Plan(config, cifar10_utils.get_cifar10(standin, validation_size=config.validation_size))
    size = config.eval_images or config.validation_size or 400
    at_the_end = (config.eval_images or 400) if config.validation_size else 0
    for step in range(plan.last_step):
        to_come = sum(map(plan.evaluates, range(step + 1, plan.last_step + 1)))
        assert plan.images_after(step) == to_come * size + at_the_end


def test_the_time_that_is_left(standin, monkeypatch, tmp_path):
    """With steps of 1 s and evaluations of 8 s, on a clock of our own."""
    now, left = [0.0], []
    monkeypatch.setattr(training.run.time, "perf_counter", lambda: now[0])

    def later(seconds, real, *arguments):
        now[0] += seconds
        return real(*arguments)

    monkeypatch.setattr(cifar10_utils.DataSet, "next_batch", functools.partialmethod(
        lambda self, real, *size_and_arrays: later(1, real, self, *size_and_arrays), cifar10_utils.DataSet.next_batch))
    monkeypatch.setattr(train_mlp_numpy, "evaluate", functools.partial(later, 8, train_mlp_numpy.evaluate))
    monkeypatch.setattr(training.console.StepBar, "step", lambda bar, seconds: left.append(seconds))
    base = ["--data_dir", standin, "--batch_size", 100, "--eval_freq", 2, "--output_dir", tmp_path / "run"]
    assert run("train_mlp_numpy", *base, "--max_steps", 6) == 0
    guess = 400 / 100 / 3  # before the first: a third of the time that as many images take to be trained on
    np.testing.assert_allclose(left, [5 + 3 * guess, 4 + 3 * guess, 3 + 2 * 8, 2 + 2 * 8, 1 + 8, 8])
    left.clear()
    assert run("train_mlp_numpy", "--resume", tmp_path / "run", "--max_steps", 10) == 0
    np.testing.assert_allclose(left, [3 + 2 * guess, 2 + 2 * guess, 1 + 8, 8])


# ---------------------------------------------------------------- lines


def test_a_resumed_run_says_from_where(standin, tmp_path, capsys):
    out = tmp_path / "run"
    assert run("train_mlp_numpy", "--data_dir", standin, *QUICK, "--output_dir", out) == 0
    assert "resuming" not in capsys.readouterr().out
    assert run("train_mlp_numpy", "--resume", out, "--max_steps", 6) == 0
    assert f"resuming {out} from step 4 of 6\n" in capsys.readouterr().out


def test_the_summary_is_a_table(standin, tmp_path, capsys):
    out = tmp_path / "run"
    assert run("train_mlp_numpy", "--data_dir", standin, *QUICK, "--output_dir", out) == 0
    summary = summary_of(out)
    lines = capsys.readouterr().out.splitlines()[-len(summary):]
    assert [line.split(maxsplit=1)[0] for line in lines] == list(summary)
    values = {line.split(maxsplit=1)[1] for line in lines}
    assert f"{summary['test_accuracy']:.4f}" in values and str(out) in values
    shown = dict(line.split(maxsplit=1) for line in lines)  # as many digits as say something
    assert shown["wall_seconds"] == f"{summary['wall_seconds']:.1f}"
    assert shown["images_per_second"] == f"{summary['images_per_second']:.0f}"
    assert len({re.match(r"\w+ +", line).end() for line in lines}) == 1  # one column


def test_unpublished_data_are_explained_once(tmp_path, capsys):
    data = write_batches(tmp_path)
    training.console.notice_once.cache_clear()
    for name in ("a", "b"):
        assert run("train_mlp_numpy", "--data_dir", data, "--max_steps", 1, "--batch_size", 5, "--output_dir", tmp_path / name) == 0
    assert capsys.readouterr().out.count("NOTICE: these files are CIFAR-10's, but not byte for byte the published ones") == 1
    assert json.loads((tmp_path / "a/config.json").read_text())["data"] == "unpublished"


# ---------------------------------------------------------------- a part of the images, and an evaluation before training


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_part_is_named_in_every_file(script, standin, tmp_path, monkeypatch):
    out = tmp_path / "run"
    small = ["--model", "study"] if script == "train_convnet_pytorch" else []
    read = []
    real = training.console.ShownSplit.shown
    monkeypatch.setattr(training.console.ShownSplit, "shown",
                        lambda self, batches: read.append(self.num_examples) or real(self, batches))
    assert run(script, "--data_dir", standin, *QUICK, *small, "--eval_images", 50, "--validation_size", 100, "--output_dir", out) == 0
    assert read == [50, 50, 50]
    assert [row["split"] for row in rows(out)] == ["train", "validation[:50]", "train", "validation[:50]", "test[:50]"]
    summary, flags = summary_of(out), json.loads((out / "config.json").read_text())["flags"]
    assert summary["eval_images"] == flags["eval_images"] == 50
    assert summary["test_accuracy"] * 50 % 1 < 1e-9 and "validation_accuracy" in summary
    assert list(out.glob("best.*"))
    assert "evaluated on the first 50 images" in training.curves.data_title(out)
    assert run(script, "--resume", out, "--max_steps", 6) == 0
    assert [row["split"] for row in rows(out)].count("test[:50]") == 1


def test_the_part_are_the_first_images(standin, tmp_path, monkeypatch):
    seen = []
    real = train_mlp_numpy.evaluate
    monkeypatch.setattr(train_mlp_numpy, "evaluate", lambda model, split: seen.append(split.images) or real(model, split))
    assert run("train_mlp_numpy", "--data_dir", standin, *QUICK, "--eval_images", 7, "--output_dir", tmp_path / "r") == 0
    np.testing.assert_array_equal(seen[0], cifar10_utils.get_cifar10(standin).test.images[:7])


@pytest.mark.parametrize(("flags", "split"), [(["--eval_images", 400], "test split's 400"),
                                              (["--eval_images", 300, "--validation_size", 300], "validation split's 300")])
def test_a_part_that_is_all_is_refused(flags, split, standin, tmp_path, capsys):
    assert run("train_mlp_numpy", "--data_dir", standin, *QUICK, *flags, "--output_dir", tmp_path / "r") == 2
    assert f"is not less than the {split} images" in capsys.readouterr().err
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize("more", [[], ["--validation_size", 100], ["--epochs", 1, "--batch_size", 1000]])
def test_an_evaluation_before_the_first_step(more, standin, tmp_path, monkeypatch):
    base = ["--data_dir", standin, *(QUICK if "--epochs" not in more else []), *more]
    assert run("train_mlp_numpy", *base, "--output_dir", tmp_path / "without") == 0
    with monkeypatch.context() as patch:
        interrupt_at(patch, cifar10_utils.DataSet, "next_batch", 1)
        assert run("train_mlp_numpy", *base, "--eval_at_start", "on", "--output_dir", tmp_path / "with") == 130
    assert run("train_mlp_numpy", "--resume", tmp_path / "with") == 0
    (step, _, loss, _), *later = untimed(tmp_path / "with")
    assert step == "0" and abs(float(loss) - np.log(10)) < 0.05  # what ten equal probabilities cost
    assert later == untimed(tmp_path / "without")


# ---------------------------------------------------------------- the learning rate


def test_the_learning_rate_of_a_schedule(standin, tmp_path, monkeypatch):
    base = ["--data_dir", standin, *QUICK, "--max_steps", 6, "--lr_schedule", "one_cycle", "--learning_rate", 0.01]
    assert run("train_mlp_pytorch", *base, "--output_dir", tmp_path / "whole") == 0
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        torch.optim.SGD([torch.zeros(1, requires_grad=True)], 0.01), 0.01, total_steps=6, cycle_momentum=False)
    expected = []
    for _ in range(6):
        expected.append(schedule.get_last_lr()[0])
        schedule.optimizer.step()
        schedule.step()
    shown = [float(row["learning_rate"]) for row in rows(tmp_path / "whole")]
    np.testing.assert_allclose(shown, [expected[n] for n in (1, 1, 3, 3, 5, 5)])
    with monkeypatch.context() as patch:
        interrupt_at(patch, training.console.ShownSplit, "shown", 2)  # the evaluation after step 4 is done again
        assert run("train_mlp_pytorch", *base, "--output_dir", tmp_path / "cut") == 130
    assert run("train_mlp_pytorch", "--resume", tmp_path / "cut") == 0
    assert [float(row["learning_rate"]) for row in rows(tmp_path / "cut")] == shown


def test_a_run_from_before_that_column_is_read_and_resumed(standin, tmp_path):
    base = ["--data_dir", standin, *QUICK, "--output_dir"]
    for name in ("whole", "old"):
        assert run("train_mlp_pytorch", *base, tmp_path / name) == 0
    out = tmp_path / "old"
    old = [[value for key, value in row.items() if key != "learning_rate"] for row in rows(out)]
    (out / "metrics.csv").write_text("step,split,loss,accuracy,seconds,images_per_second\n" + "".join(
        ",".join(row) + "\n" for row in old))
    checkpoint = load_torch(out / "last.pt")
    torch.save({key: value for key, value in checkpoint.items() if key != "learning_rate"}, out / "last.pt")
    assert training.curves.load_curves(out).keys() == {"train", "test"}
    for name in ("whole", "old"):
        assert run("train_mlp_pytorch", "--resume", tmp_path / name, "--max_steps", 6) == 0
    assert_same_run(tmp_path / "whole", out)
    assert [row["learning_rate"] for row in rows(out)] == ["nan"] * 4 + ["0.001"] * 2


# ---------------------------------------------------------------- curves of a run that ended early


def test_an_interrupted_run_leaves_curves(standin, tmp_path, monkeypatch):
    interrupt_at(monkeypatch, cifar10_utils.DataSet, "next_batch", 4)
    assert run("train_mlp_numpy", "--data_dir", standin, *QUICK, "--output_dir", tmp_path / "run") == 130
    assert (tmp_path / "run/curves.png").stat().st_size > 10_000 and (tmp_path / "run/curves.svg").exists()


def test_a_diverged_run_leaves_curves(standin, tmp_path, monkeypatch):
    real, results = train_mlp_numpy.evaluate, iter([None, (float("nan"), 0.1)])
    monkeypatch.setattr(train_mlp_numpy, "evaluate", lambda *arguments: next(results) or real(*arguments))
    assert run("train_mlp_numpy", "--data_dir", standin, *QUICK, "--output_dir", tmp_path / "run") == 3
    assert (tmp_path / "run/curves.png").exists()


def test_a_run_that_ended_before_its_first_evaluation_leaves_none(standin, tmp_path, monkeypatch, capsys):
    interrupt_at(monkeypatch, cifar10_utils.DataSet, "next_batch", 1)
    assert run("train_mlp_numpy", "--data_dir", standin, *QUICK, "--output_dir", tmp_path / "run") == 130
    assert not (tmp_path / "run/curves.png").exists() and "could not be drawn" not in capsys.readouterr().out


