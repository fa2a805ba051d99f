"""The training scripts in the shells, environments and folders that people have."""

import csv
import errno
import io
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
import torch
import torchvision
from script_runs import QUICK, ROOT, assert_same_run, interrupt_at, interrupt_while_writing, rows, run, untimed, weights

import cifar10_utils
import plot_curves
import predict
import train_mlp_autodiff
import train_mlp_numpy
import training.folder
import training.run
import training.script
from imagefiles.dataset import quoted
from training import checkpoints, curves, machine
from training.checkpoints import atomic_write
from training.flags import UserError

pytestmark = pytest.mark.training


def shell(command: str, cwd: Path = ROOT, **environment: str) -> subprocess.CompletedProcess:
    """A command line, with the words that `environment` adds to this one's."""
    clean = {key: value for key, value in os.environ.items() if key not in ("RANK", "WORLD_SIZE", "MPLBACKEND")}
    return subprocess.run(["bash", "-c", command], cwd=cwd, env=clean | {"OMP_NUM_THREADS": "1"} | environment,
                          capture_output=True, text=True, timeout=120, check=False)


def numpy_run(standin: Path, out: Path, *more: str) -> str:
    return " ".join([sys.executable, str(ROOT / "train_mlp_numpy.py"), "--data_dir", str(standin), *QUICK,
                     "--output_dir", str(out), *more])


def assert_finished(folder: Path) -> None:
    assert json.loads((folder / "summary.json").read_text())["steps"] == 4
    assert [row["step"] for row in rows(folder)] == ["2", "2", "4", "4"]
    assert list(folder.glob("last.*"))


# ---------------------------------------------------------------- launcher variables


LAUNCHED = {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}


@pytest.mark.parametrize(("environment", "says"), [
    ({"RANK": "1"}, "RANK of a launcher is set, but not WORLD_SIZE, LOCAL_RANK, MASTER_ADDR, MASTER_PORT"),
    ({"RANK": "60"}, "unset RANK"),
    ({"WORLD_SIZE": "2"}, "but not RANK"),
    ({"LOCAL_RANK": "0", "MASTER_ADDR": "x", "MASTER_PORT": "1"}, "but not RANK, WORLD_SIZE"),
    ({**LAUNCHED, "RANK": "2"}, "do not agree"),
    ({**LAUNCHED, "RANK": "-1"}, "do not agree"),
    ({**LAUNCHED, "RANK": "one"}, "RANK=one"),
    ({**LAUNCHED, "WORLD_SIZE": "two"}, "WORLD_SIZE=two"),
    ({**LAUNCHED, "LOCAL_RANK": "3"}, "LOCAL_RANK=3"),
    ({**LAUNCHED, "MASTER_PORT": "http"}, "MASTER_PORT=http"),
])
def test_launcher_variables_that_are_left_over_are_one_line(environment, says, standin, tmp_path, monkeypatch, capsys):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert run("train_mlp_pytorch", "--data_dir", standin, *QUICK, "--output_dir", tmp_path / "run") == 2
    error = capsys.readouterr().err
    assert says in error and error.count("\n") == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("script", ["train_mlp_pytorch", "train_convnet_pytorch"])
def test_launcher_variables_are_looked_at_before_the_data(script, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert run(script, "--data_dir", tmp_path / "none", "--output_dir", tmp_path / "run") == 2
    assert ": RANK, WORLD_SIZE of a launcher are set, but not LOCAL_RANK" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("environment", [{"MASTER_ADDR": "x", "MASTER_PORT": "y"}, {"RANK": "", "WORLD_SIZE": ""},
                                         {**LAUNCHED, "WORLD_SIZE": "1"}])
def test_one_process_is_one_process(environment, standin, tmp_path, monkeypatch):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert run("train_mlp_pytorch", "--data_dir", standin, *QUICK, "--output_dir", tmp_path / "run") == 0
    assert_finished(tmp_path / "run")


def test_a_single_process_says_its_errors_whatever_its_rank(standin, tmp_path):
    done = shell(numpy_run(standin, tmp_path / "run", "--learning_rate 1e20 --weight_std 0.01"), RANK="1")
    assert (done.returncode, done.stderr.count("\n")) == (3, 1)
    assert "loss became" in done.stderr


# ---------------------------------------------------------------- pictures


@pytest.mark.parametrize("environment", [
    {"MPLBACKEND": "module://matplotlib_inline.backend_inline"}, {"MPLBACKEND": "no such backend"},
    {"MATPLOTLIBRC": "text.usetex: True\n"}, {"MATPLOTLIBRC": "\xff\x00: ["}, {"MATPLOTLIBRC": "figure.dpi: many\n"}])
def test_curves_are_drawn_whatever_matplotlib_is_set_to(environment, standin, tmp_path):
    if content := environment.get("MATPLOTLIBRC"):
        (tmp_path / "matplotlibrc").write_text(content, encoding="latin-1")
        environment = {"MATPLOTLIBRC": str(tmp_path / "matplotlibrc")}
    done = shell(numpy_run(standin, tmp_path / "run"), **environment)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr and "NOTICE: the curves" not in done.stdout
    assert_finished(tmp_path / "run")
    assert matplotlib.image.imread(tmp_path / "run/curves.png").shape[:2] == (462, 1210)


def test_a_picture_that_fails_is_one_notice_after_the_results(standin, tmp_path):
    (tmp_path / "matplotlibrc").write_bytes(b"\xff\x00: [")  # of the working directory, which comes before all others
    done = shell(numpy_run(standin, tmp_path / "run"), cwd=tmp_path)
    assert done.returncode == 0 and "Traceback" not in done.stderr
    assert done.stdout.count("NOTICE: the curves could not be drawn") == 1
    assert_finished(tmp_path / "run")
    done = shell(f"{sys.executable} {ROOT}/train_mlp_autodiff.py --dataset synth --epochs 1 --repeats 1 --batch_size 1000 "
                 f"--output_dir {tmp_path}/auto", cwd=tmp_path)
    assert done.returncode == 0 and "Traceback" not in done.stderr
    assert done.stdout.count("NOTICE: the curves could not be drawn") == 3  # of two repeats, and of both
    assert json.loads((tmp_path / "auto/summary.json").read_text())["repeats"] == 1


def test_names_with_dollars_and_underscores_are_in_the_legend(standin, tmp_path, monkeypatch):
    shown = []
    real = curves.save_figure

    def save_figure(target, paint, *size):
        def looked_at(figure):
            paint(figure)
            shown.extend(text.get_text() for text in figure.legends[0].get_texts())
        real(target, looked_at, *size)

    monkeypatch.setattr(curves, "save_figure", save_figure)
    for name in ("_old", "$lr_1$ $"):
        assert run("train_mlp_numpy", "--data_dir", standin, *QUICK, "--output_dir", tmp_path / name) == 0
    shown.clear()
    assert plot_curves.main([str(tmp_path / "_old"), str(tmp_path / "$lr_1$ $"), "--out", str(tmp_path / "both")]) == 0
    assert [text.strip() for text in shown] == ["_old", "$lr_1$ $", "train", "test"]


# ---------------------------------------------------------------- output that is gone


@pytest.mark.parametrize("where", ["| head -n 1", "| true", ">&-", "2>&-", ">&- 2>&-", ">/dev/full", ">/dev/full 2>/dev/full"])
def test_lost_output_stops_nothing(where, standin, tmp_path):
    done = shell(f"{numpy_run(standin, tmp_path / 'run')} {where}; exit ${{PIPESTATUS[0]}}")
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr and "Exception ignored" not in done.stderr
    assert_finished(tmp_path / "run")


def test_lost_output_changes_no_exit_status(standin, tmp_path):
    for where in ("2>&-", "2>/dev/full", ">&- 2>&-"):
        assert shell(f"{numpy_run(standin, tmp_path / 'run')} --batch_size 0 {where}").returncode == 2
        assert shell(f"{sys.executable} train_mlp_numpy.py --no_such_flag 1 {where}").returncode == 2
    assert shell(f"{sys.executable} train_mlp_numpy.py --help >/dev/full").returncode == 0


def test_lost_output_ends_no_other_command(standin, tmp_path):
    """Each does its work, and what it returns is not about who reads its output."""
    a_run, picture = tmp_path / "run", tmp_path / "picture.png"
    assert run("train_mlp_numpy", "--data_dir", standin, *QUICK, "--output_dir", a_run) == 0
    matplotlib.image.imsave(picture, np.zeros((40, 50, 3), np.uint8))
    commands = [f"plot_curves.py {a_run} --out {tmp_path}/curves", f"plot_curves.py --list {a_run}",
                f"predict.py {a_run} {picture} --plot {tmp_path}/plot.png", f"cifar10_utils.py verify {standin}"]
    for where in (">&- 2>&-", ">/dev/full", "| true"):
        for name in ("curves.png", "plot.png"):
            (tmp_path / name).unlink(missing_ok=True)
        done = shell("; ".join(f"{sys.executable} {command} {where}; echo ${{PIPESTATUS[0]}} >>{tmp_path}/statuses"
                               for command in commands))
        assert not done.stderr
        assert all((tmp_path / name).exists() for name in ("curves.png", "plot.png"))
    assert (tmp_path / "statuses").read_text().split() == 3 * len(commands) * ["0"]


def test_ctrl_c_is_one_line_of_every_other_command(standin, tmp_path):
    a_run, picture = tmp_path / "run", tmp_path / "picture.png"
    assert run("train_mlp_numpy", "--data_dir", standin, *QUICK, "--output_dir", a_run) == 0
    matplotlib.image.imsave(picture, np.zeros((40, 50, 3), np.uint8))
    interrupt_while_writing(tmp_path / "plot.png", "predict.py", a_run, picture, "--plot", tmp_path / "plot.png")
    interrupt_while_writing(tmp_path / "curves.svg", "plot_curves.py", a_run, "--out", tmp_path / "curves")
    interrupt_while_writing(a_run / "predictions.json", "-m", "report.inspect_runs", a_run, "--data_dir", standin)


@pytest.mark.parametrize(("command", "says"), [
    ("cifar10_utils.py standin X --train_size -1e3", "argument --train_size: invalid int value: '-1e3'"),
    ("cifar10_utils.py standin X --train_siz 3", "unknown flag --train_siz (see --help)"),
    ("plot_curves.py X --lag", "unknown flag --lag; did you mean --log?"),
    ("grade.py x.zip --jobs -1e3", "argument --jobs: '-1e3' is not a whole number of 1 or more"),
    ("predict.py", "the following arguments are required: RUN")])
def test_a_mistake_on_the_command_line_is_one_line(command, says):
    done = shell(f"{sys.executable} {command}")
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and says in done.stderr, done.stderr


def started(command: str, folder: Path) -> subprocess.Popen:
    """A long run, with its first checkpoint written."""
    process = subprocess.Popen(["bash", "-c", f"exec {command}"], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                               text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    give_up = time.time() + 60
    while not (folder / "last.npz").exists() and time.time() < give_up:
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    return process


def test_a_closed_terminal_stops_a_run_and_it_is_saved(standin, tmp_path):
    process = started(numpy_run(standin, tmp_path / "run", "--max_steps", "10000000"), tmp_path / "run")
    process.send_signal(signal.SIGHUP)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGHUP
    assert f"continue with --resume {tmp_path / 'run'}" in error


def test_a_closed_terminal_does_not_stop_a_run_under_nohup(standin, tmp_path):
    process = started(f"nohup {numpy_run(standin, tmp_path / 'run', '--max_steps', '10000000')}", tmp_path / "run")
    process.send_signal(signal.SIGHUP)
    time.sleep(1)
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM


def test_resume_is_named_where_there_is_a_checkpoint_and_only_there(standin, tmp_path):
    full = shell(f"ulimit -f 100; {numpy_run(standin, tmp_path / 'run')}")  # blocks of 1024 bytes
    assert full.returncode == 1 and full.stderr.count("\n") == 1
    assert f"there is no checkpoint yet: remove {tmp_path / 'run'} and start again" in full.stderr
    again = shell(numpy_run(standin, tmp_path / "run"))
    assert again.returncode == 2 and "--resume" not in again.stderr
    assert shell(numpy_run(standin, tmp_path / "b")).returncode == 0
    full = shell(f"ulimit -f 100; {sys.executable} train_mlp_numpy.py --resume {tmp_path / 'b'} --max_steps 6")
    assert full.returncode == 1 and f"continue with --resume {tmp_path / 'b'}" in full.stderr


class SmallDisk(io.FileIO):
    def write(self, content):
        if self.tell() + len(content) > 10_000:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return super().write(content)


def test_a_disk_that_is_full_while_pytorch_saves_is_one_line(standin, tmp_path, monkeypatch, capsys):
    """PyTorch's writer says that of a position in the file."""
    def opened(path, mode, **more):
        return SmallDisk(path, mode) if path.name == ".last.pt.part" else open(path, mode, **more)

    monkeypatch.setattr(checkpoints, "open", opened, raising=False)
    assert run("train_mlp_pytorch", "--data_dir", standin, *QUICK, "--output_dir", tmp_path / "run") == 1
    error = capsys.readouterr().err
    assert f"cannot write or read {tmp_path / 'run' / 'last.pt'}: No space left on device" in error and error.count("\n") == 1


def test_a_signal_ends_a_warm_up_at_once(standin, tmp_path):
    """A linear probe that takes minutes: nothing is saved yet, and it says so."""
    torch.save(torchvision.models.resnet18(weights=None).state_dict(), tmp_path / "weights.pth")
    out = tmp_path / "run"
    process = subprocess.Popen([sys.executable, "train_transfer_pytorch.py", "--data_dir", standin, "--model", "resnet18",
                                "--weights", tmp_path / "weights.pth", "--image_size", "224", "--output_dir", out],
                               cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while not (out / "metrics.csv").exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.1)
    time.sleep(2)
    process.send_signal(signal.SIGTERM)
    _, error = process.communicate(timeout=30)  # a batch of 250 images may be computed to its end
    assert process.returncode == 143
    assert error == (f"train_transfer_pytorch.py: stopped before the first step; there is no checkpoint yet: remove {out} "
                     "and start again\n")


# ---------------------------------------------------------------- resuming


def test_resuming_from_the_best_loses_no_row_before_a_new_checkpoint(standin, tmp_path, monkeypatch):
    base = ["--data_dir", standin, *QUICK, "--max_steps", 6, "--validation_size", 100]
    real = training.run.Run._save

    def save(self, name):
        if name == "last" or self.step <= 2:
            real(self, name)

    out = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(training.run.Run, "_save", save)
        assert run("train_mlp_numpy", *base, "--output_dir", out) == 0
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    for name, call in (("next_indices", 1), ("batches", 1)):
        with monkeypatch.context() as patch:
            interrupt_at(patch, cifar10_utils.DataSet, name, call, by=SystemExit)
            with pytest.raises(SystemExit):
                run("train_mlp_numpy", "--resume", out / "best.npz")
        assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    for call in (1, 2):  # before the new checkpoint, and when that is there and the shortened file is not
        with monkeypatch.context() as patch:
            interrupt_at(patch, training.folder, "write_metrics", call, by=SystemExit)
            with pytest.raises(SystemExit):
                run("train_mlp_numpy", "--resume", out / "best.npz")
        assert [(row["step"], row["split"]) for row in rows(out)] == [
            (row["step"], row["split"]) for row in csv.DictReader(before["metrics.csv"].decode().splitlines())]
    assert run("train_mlp_numpy", "--resume", out) == 0
    assert run("train_mlp_numpy", *base, "--output_dir", tmp_path / "whole") == 0
    assert_same_run(out, tmp_path / "whole")


@pytest.mark.parametrize("script", ["train_mlp_numpy", "train_mlp_pytorch"])
@pytest.mark.parametrize("validation", [0, 100])
def test_a_run_that_ended_between_two_evaluations_is_prolonged_without_a_trace(script, validation, standin, tmp_path):
    base = ["--data_dir", standin, "--batch_size", 20, "--eval_freq", 4, "--validation_size", validation]
    assert run(script, *base, "--max_steps", 10, "--output_dir", tmp_path / "whole") == 0
    assert run(script, *base, "--max_steps", 6, "--output_dir", tmp_path / "run") == 0
    assert [row["step"] for row in rows(tmp_path / "run") if row["split"] == "train"] == ["4", "6"]
    assert run(script, "--resume", tmp_path / "run") == 0  # which changes nothing
    assert [row["step"] for row in rows(tmp_path / "run") if row["split"] == "train"] == ["4", "6"]
    assert run(script, "--resume", tmp_path / "run", "--max_steps", 10) == 0
    assert_same_run(tmp_path / "whole", tmp_path / "run")


def test_a_programming_error_while_ctrl_c_is_handled_is_no_ctrl_c(standin, tmp_path, monkeypatch):
    real = training.run.Run._save

    def save(self, name):
        real(self, name)
        if self.progress.totals.images:
            raise TypeError("a mistake of ours")

    monkeypatch.setattr(training.run.Run, "_save", save)
    interrupt_at(monkeypatch, cifar10_utils.DataSet, "batches", 1)
    with pytest.raises(TypeError, match="a mistake of ours"):
        run("train_mlp_numpy", "--data_dir", standin, *QUICK, "--output_dir", tmp_path / "run")


# ---------------------------------------------------------------- places and names


def test_home_is_expanded_in_each_path(standin, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").symlink_to(standin)
    (tmp_path / "mine.toml").write_text('script = "train_mlp_numpy"\n[flags]\nactivation = "relu"\n')
    assert run("train_mlp_numpy", "--recipe", "~/mine.toml", "--data_dir", "~/data", *QUICK, "--output_dir", "~/a run") == 0
    assert run("train_mlp_numpy", "--resume", "~/a run", "--max_steps", 6) == 0
    assert plot_curves.main(["~/a run", "--out", "~/picture"]) == 0
    assert {"a run", "picture.png", "picture.svg"} <= set(os.listdir(tmp_path)) and "~" not in os.listdir(tmp_path)


@pytest.mark.parametrize("command", [
    "train_mlp_numpy.py --data_dir", "train_mlp_numpy.py --output_dir", "predict.py", "plot_curves.py X --out",
    "make_submission.py --name Doe --out", "cifar10_utils.py fetch", "cifar10_utils.py standin"])
def test_a_user_that_does_not_exist_is_one_line(command, tmp_path):
    done = subprocess.run([sys.executable, *f"{ROOT}/{command} ~nosuchuser/x".split()], cwd=tmp_path, capture_output=True,
                          text=True, check=False)
    assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr
    assert "~nosuchuser: no such home folder; for a folder of this name, write ./~nosuchuser/x" in done.stderr
    assert not os.listdir(tmp_path)


def test_what_is_printed_can_be_pasted(standin, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    interrupt_at(monkeypatch, cifar10_utils.DataSet, "next_indices", 2)
    assert run("train_mlp_numpy", "--data_dir", standin, *QUICK, "--output_dir", "it's a run; rm -rf") == 130
    command = capsys.readouterr().err.strip().partition("continue with ")[2]
    done = shell(f"{sys.executable} {ROOT}/train_mlp_numpy.py {command}", cwd=Path("/"))
    assert done.returncode == 0, done.stderr
    assert_finished(tmp_path / "it's a run; rm -rf")
    name = shlex.quote(str(tmp_path / "it's a run; rm -rf"))
    assert f"folder             {name}\n" in done.stdout
    assert run("train_mlp_numpy", "--resume", "it's a run; rm -rf", "--batch_size", 7) == 2
    assert f"--resume: {name} was trained with --batch_size" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["plain", "it's", "a b", "two\nlines", "tab\t", "\\n", "f\udcfcr", "für\udcfc1", "\x1b[31m"])
@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_a_name_is_quoted_as_a_shell_reads_it(name, encoding, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding))
    said = quoted(tmp_path / name)
    said.encode(encoding)
    assert said.isprintable()
    done = subprocess.run(["bash", "-c", f"printf %s {said}"], capture_output=True, check=True)
    assert done.stdout == os.fsencode(tmp_path / name)


def test_a_name_that_is_no_text_is_drawn(standin, tmp_path):
    folder = tmp_path / "f\udcfcr"
    assert run("train_mlp_numpy", "--data_dir", standin, *QUICK, "--output_dir", folder) == 0
    assert plot_curves.main([str(folder), str(folder), "--labels", "f\udcfcr", "b", "--out", str(tmp_path / "both")]) == 0
    assert (tmp_path / "both.png").exists()
    matplotlib.image.imsave(tmp_path / "f\udcfcr.png", np.zeros((40, 50, 3), np.uint8))
    assert predict.main([str(folder), str(tmp_path / "f\udcfcr.png"), "--plot", str(tmp_path / "plot.png")]) == 0


@pytest.mark.parametrize("script", ["train_mlp_numpy", "train_mlp_autodiff"])
def test_a_run_with_a_relative_data_folder_is_resumed_from_elsewhere(script, standin, tmp_path, monkeypatch):
    (tmp_path / "work").mkdir()
    (tmp_path / "work/data").symlink_to(standin)
    monkeypatch.chdir(tmp_path / "work")
    if script == "train_mlp_numpy":
        argv = ["--data_dir", "./data", *QUICK, "--output_dir", "out/run"]
        assert run(script, *argv) == 0
        monkeypatch.chdir("/")
        assert run(script, "--resume", tmp_path / "work/out/run", "--max_steps", 6) == 0
    else:
        module = train_mlp_autodiff
        argv = ["--dataset", "synth", "--epochs", "1", "--repeats", "1", "--batch_size", "1000", "--output_dir", "out/run"]
        assert training.script.run_script(module.Config, module.train, "", argv) == 0
        (tmp_path / "work/out/run/summary.json").unlink()
        monkeypatch.chdir("/")
        assert training.script.run_script(module.Config, module.train, "", ["--resume", str(tmp_path / "work/out/run")]) == 0


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])  # a shell's setting; what Windows writes into a file or pipe
def test_names_that_standard_output_cannot_encode_stop_nothing(encoding, standin, tmp_path):
    """A run's output stops in the middle, or a command that did its work ends in a traceback: for a file's name."""
    data, runs = tmp_path / "dąta", tmp_path / "łódź"
    shutil.copytree(standin, data)
    matplotlib.image.imsave(tmp_path / "żółw.png", np.zeros((40, 50, 3), np.uint8))

    def said(*command):
        done = subprocess.run([sys.executable, *map(str, command)], cwd=ROOT, capture_output=True, check=False,
                              env=os.environ | {"PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"})
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout.decode(encoding)

    out = said("train_mlp_numpy.py", "--data_dir", data, *QUICK, "--output_dir", runs / "run")
    assert out.splitlines()[-1].split()[0] == "folder" and rf"$'{tmp_path}/\xc5\x82" in out  # ł, for bash
    assert "\\u0142" in said("plot_curves.py", "--list", runs)
    assert rf"$'{tmp_path}/\xc5\x82" in said("plot_curves.py", runs / "run", "--out", runs / "curves")
    assert "\\u017c" in said("predict.py", runs / "run", tmp_path / "żółw.png")
    assert "d\\u0105ta" in said("cifar10_utils.py", "verify", data)


def test_two_starts_in_the_same_second(standin, tmp_path):
    argv = f"{sys.executable} {ROOT}/train_mlp_numpy.py --data_dir {standin} {' '.join(QUICK)}"
    frozen = tmp_path / "sitecustomize.py"
    frozen.write_text("import time\nreal = time.strftime\ntime.strftime = lambda format, *t: "
                      "'noon' if format == '%Y-%m-%d_%H-%M-%S' else real(format, *t)\n")
    done = shell("; ".join(f"{argv} & a{n}=$!" for n in range(3)) + "; wait $a0 && wait $a1 && wait $a2", cwd=tmp_path,
                 PYTHONPATH=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert set(os.listdir(tmp_path / "results/train_mlp_numpy")) == {"noon", "noon_1", "noon_2"}


@pytest.mark.parametrize(("value", "threads"), [("auto", None), ("1.0", 1), ("3", 3), ("0", None), ("nan", None), ("1e300", 2**31)])
def test_the_number_of_threads_that_is_recorded(value, threads, standin, tmp_path):
    code = "from training.machine import describe_machine as d; print(d()['machine']['threads'])"
    core = min(os.sched_getaffinity(0))
    done = shell(f"taskset -c {core} {sys.executable} -c \"{code}\"", OMP_NUM_THREADS=value)
    assert int(done.stdout) == (threads or 1), done.stderr


def test_threads_are_as_many_as_there_are_cores_for_this_process(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert machine.threads() == len(os.sched_getaffinity(0))


def test_a_recipe_with_a_byte_order_mark(tmp_path):
    for name, text in (("a.toml", 'script = "train_mlp_numpy"\n[flags]\nseed = 7\n'),
                       ("a.json", '{"script": "train_mlp_numpy", "flags": {"seed": 7}}')):
        (tmp_path / name).write_text(text, encoding="utf-8-sig")
        config = training.script.parse_flags(train_mlp_numpy.Config, "", ["--recipe", str(tmp_path / name)])
        assert config.seed == 7


def test_a_recipe_in_another_encoding(tmp_path):
    """As PowerShell 5 writes what is redirected into a file."""
    path = tmp_path / "a.toml"
    path.write_text('script = "train_mlp_numpy"\n[flags]\nseed = 7\n', encoding="utf-16")
    with pytest.raises(UserError, match=r"a.toml is not in UTF-8; save it in that encoding$"):
        training.script.parse_flags(train_mlp_numpy.Config, "", ["--recipe", str(path)])


def test_a_file_that_cannot_be_written_has_the_name_that_it_was_to_have(tmp_path):
    with pytest.raises(OSError) as error, atomic_write(tmp_path / "no folder" / "a.csv"):
        pass
    assert error.value.filename == str(tmp_path / "no folder" / "a.csv")


@pytest.mark.parametrize("name", ["ENOSYS", "ENOLCK", "EOPNOTSUPP"])
def test_a_file_system_without_locks_or_fsync(name, standin, tmp_path):
    (tmp_path / "sitecustomize.py").write_text(
        "import errno, fcntl, os\n"
        f"def refuse(*_): raise OSError(errno.{name}, 'not here')\n"
        "fcntl.flock = os.fsync = refuse\n")
    done = shell(numpy_run(standin, tmp_path / "run"), PYTHONPATH=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert_finished(tmp_path / "run")
    assert len(re.findall("^NOTICE: this file system", done.stdout, re.M)) == 2
    assert untimed(tmp_path / "run") and weights(tmp_path / "run")


def test_the_commit_is_this_packages_in_another_repositorys_hook(tmp_path, monkeypatch):
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@example.org"]
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "other"], check=True)
    before = machine.git_commit()
    for name, path in (("GIT_DIR", ".git"), ("GIT_WORK_TREE", "."), ("GIT_INDEX_FILE", ".git/index")):
        monkeypatch.setenv(name, str(tmp_path / path))
    assert machine.git_commit() == before
