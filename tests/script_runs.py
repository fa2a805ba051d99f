"""The training scripts, run in this process as from the shell, and what their run folders hold."""

import csv
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np

import train_convnet_pytorch
import train_mlp_numpy
import train_mlp_pytorch
import training.checkpoints
import training.script
from training.trainer import load_torch

ROOT = Path(__file__).parent.parent
SCRIPTS = {"train_mlp_numpy": train_mlp_numpy, "train_mlp_pytorch": train_mlp_pytorch,
           "train_convnet_pytorch": train_convnet_pytorch}
UNMEASURED = {key: value for key, value in os.environ.items() if not key.startswith("COVERAGE")}
"""For a process whose files may not grow: coverage would write one as it ends."""
QUICK = ["--max_steps", "4", "--batch_size", "20", "--eval_freq", "2"]


def run(name: str, *argv: object) -> int:
    """On the CPU, unless `argv` names a device: where there is a GPU, --device auto takes it, whose bits are others."""
    module = SCRIPTS[name]
    device = ["--device", "cpu"] if name != "train_mlp_numpy" and "--device" not in argv else []
    return training.script.run_script(module.Config, module.train, module.__doc__, [str(a) for a in (*argv, *device)])


def interrupt_at(monkeypatch, owner, name: str, call: int, signum: int = signal.SIGINT,
                 by: type[BaseException] | None = None) -> None:
    """Raise a signal, or the exception `by`, at the `call`-th call of owner.name. SystemExit leaves nothing time to save:
    for the run folder that is a kill."""
    real, calls = getattr(owner, name), []

    def wrapper(*args, **kwargs):
        calls.append(None)
        if len(calls) == call:
            if by:
                raise by
            signal.raise_signal(signum)
        return real(*args, **kwargs)

    monkeypatch.setattr(owner, name, wrapper)


INTERRUPTED = """
import os, runpy, signal, sys
target, *sys.argv = sys.argv[1:]
replace = os.replace

def interrupted(old, new):
    if str(new) == target:
        signal.raise_signal(signal.SIGINT)
    replace(old, new)

os.replace = interrupted
if sys.argv[0] == "-m":
    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
else:
    runpy.run_path(sys.argv[0], run_name="__main__")
"""


def interrupt_while_writing(path: Path, *command: object, cwd: Path = ROOT) -> None:
    """Ctrl-C at a command that writes `path`: one line, status 130, and what was at `path` before is still there."""
    path.write_text("whole")
    done = subprocess.run([sys.executable, "-c", INTERRUPTED, *map(str, (path, *command))], cwd=cwd, capture_output=True, text=True,
                          check=False)
    assert done.returncode == 130, done.stderr
    assert re.fullmatch(r"\w+\.py: stopped; what was written before is whole\n", done.stderr), done.stderr
    assert path.read_text() == "whole" and not path.with_name(f".{path.name}.part").exists()


def rows(folder: Path) -> list[dict[str, str]]:
    with open(folder / "metrics.csv", newline="") as file:
        return list(csv.DictReader(file))


def untimed(folder: Path) -> list[tuple[str, ...]]:
    return [(r["step"], r["split"], r["loss"], r["accuracy"]) for r in rows(folder)]


def weights(folder: Path) -> dict[str, np.ndarray]:
    if (folder / "last.npz").exists():
        return training.checkpoints.NPZ.load(folder / "last.npz")["state"]["params"]
    return {k: v.numpy() for k, v in load_torch(folder / "last.pt")["state"]["model"].items()}


def assert_same_run(one: Path, other: Path) -> None:
    assert untimed(one) == untimed(other)
    first, second = weights(one), weights(other)
    assert first.keys() == second.keys()
    for key in first:
        np.testing.assert_array_equal(first[key], second[key], err_msg=key)
