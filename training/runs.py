"""Runs side by side: the flags in which they differ, and a list of those under a folder with what became of them."""

from __future__ import annotations

import contextlib
import copy
import csv
import dataclasses
import importlib
import json
import os
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from training.checkpoints import NPZ, CheckpointError, lock
from training.console import wrapped
from training.flags import IdleFlag, UserError, refuse_idle_flags
from training.metrics import read_metrics
from training.resume import saved_flags

SCRIPTS = ("train_mlp_numpy", "train_mlp_autodiff", "train_mlp_pytorch", "train_convnet_pytorch",
           "train_transfer_pytorch")
APART = ("data_dir", "output_dir", "resume", "device", "tensorboard", "eval_freq", "eval_at_start",
         "flip_average")  # flags that do not change what is learned
FLAGS_WIDTH = 40  # characters, less than which the column of the flags is not worth having
STUDY = "study.log"  # what search_mlp_pytorch.py leaves


@dataclass(frozen=True)
class Acting:
    """What a run's flags did. values: of those that had an effect. defaults: of all that its script has."""

    values: dict[str, Any]
    defaults: dict[str, Any]


@dataclass(frozen=True)
class Listed:
    """A run, or a study, in the list: what its columns say."""

    folder: Path
    started: str
    script: str
    flags: Acting
    accuracy: str
    seconds: float
    state: str


def acting(folder: Path, config: dict[str, Any]) -> Acting:
    """The flags of the run in `folder`; one that did not exist when it was made had its default."""
    script, flags = config["script"].partition(",")[0], config["flags"]  # of "train_mlp_autodiff, one repeat"
    try:
        if script not in SCRIPTS:
            raise UserError(f"{script} is not of this package")
        config_class = importlib.import_module(script).Config
        whole = config_class(**saved_flags(folder, config_class))
    except UserError:  # of another version, or another program
        known = {name: value for name, value in flags.items() if name not in APART}
        return Acting(known, known)
    while idle := _idle_flag(whole):
        setattr(whole, idle, whole.default_of(idle))
    fields = [f for f in dataclasses.fields(whole) if f.name not in APART]
    return Acting({f.name: getattr(whole, f.name) for f in fields if not f.metadata["needs"] or _acts(whole, f.name)},
                  {f.name: whole.default_of(f.name) for f in fields})


def _idle_flag(config: Any) -> str | None:
    try:
        refuse_idle_flags(config)
        return None
    except IdleFlag as idle:
        return idle.name


def _acts(config: Any, name: str) -> bool:
    """Whether the flag `name` would have an effect, had it a value that asks for something."""
    asking = copy.copy(config)
    setattr(asking, name, object())
    return _idle_flag(asking) != name


def differing(runs: list[Acting]) -> list[str]:
    """For each run, its flags in which the runs differ, as on a command line; '' where they do not.

    A flag that had no effect, or that the run's script does not have, counts as its default and is not shown.
    """
    defaults: dict[str, Any] = {}
    for run in runs:
        defaults = run.defaults | defaults
    names = [name for name, default in defaults.items()
             if len({repr(run.values.get(name, run.defaults.get(name, default))) for run in runs}) > 1]

    def shown(value: Any) -> str:
        return (",".join(map(str, value)) if isinstance(value, list) else str(value)) or "''"

    return [" ".join(f"--{name} {shown(run.values[name])}" for name in names if name in run.values) for run in runs]


def labels(folders: list[Path]) -> list[str]:
    """A label for each run: its script and the flags in which it differs from the others; its folder's name where those
    are the same for two."""
    configs = [json.loads((folder / "config.json").read_text()) for folder in folders]
    several = len({config["script"] for config in configs}) > 1
    found = [f"{config['script']} {flags}".strip() if several else flags
             for config, flags in zip(configs, differing(list(map(acting, folders, configs))), strict=True)]
    counts = Counter(found)
    return [label if label and counts[label] == 1 else f"{label} {folder.name}".strip()
            for label, folder in zip(found, folders, strict=True)]


def find(root: Path) -> Iterator[Path]:
    """The folders of runs and studies under `root`; what lies inside one, such as a study's trials, is part of it."""
    for name, folders, files in os.walk(root):
        folders.sort()
        if "config.json" in files or STUDY in files:
            folders.clear()
            yield Path(name)


def listed(folder: Path) -> Listed:
    """What the list says of a run or a study. Raises OSError, ValueError, LookupError, TypeError for a damaged one."""
    if (folder / STUDY).exists():
        return _study(folder)
    config = json.loads((folder / "config.json").read_text())
    summary_file = folder / "summary.json"
    summary = json.loads(summary_file.read_text()) if summary_file.exists() else {}
    rows = [] if "repeats" in config["flags"] else read_metrics(folder / "metrics.csv")  # which has its own summary
    evaluated = [row for row in rows if row["split"] != "train"]
    if evaluated:
        accuracy = f"{evaluated[-1]['accuracy']:.4f} {evaluated[-1]['split']}"
    else:
        part = f"[:{summary['eval_images']}]" if "eval_images" in summary else ""
        accuracy = f"{summary['test_accuracy']:.4f} test{part}" if summary else ""
    step = f" at step {evaluated[-1]['step']}" if evaluated else ""
    if summary:
        state = "finished"
    elif held(folder / ".lock"):
        state = f"running{step}"
    else:
        state = config.get("ended") or f"stopped{step}"
    seconds = summary.get("wall_seconds") or _seconds_so_far(folder)
    started = config["started"][:16].replace("T", " ")
    return Listed(folder, started, config["script"], acting(folder, config), accuracy, seconds, state)


def _seconds_so_far(folder: Path) -> float:
    """How long an unfinished run was at work, as its last row or its last checkpoint says; of repeats, all of them."""
    if repeats := list(folder.glob("*/config.json")):
        return sum(listed(repeat.parent).seconds for repeat in repeats)
    found = [row["seconds"] for row in read_metrics(folder / "metrics.csv")]
    for path in folder.glob("last.*"):
        with contextlib.suppress(CheckpointError, LookupError):  # a damaged one
            if path.suffix == NPZ.suffix:
                found.append(NPZ.load(path)["seconds"])
            else:
                trainer = importlib.import_module("training.trainer")  # for PyTorch's own checkpoints alone
                found.append(trainer.load_torch(path)["seconds"])
    return max(found, default=0.0)


def _study(folder: Path) -> Listed:
    """A search: its trials by state, the best of them, the time of all."""
    trials: list[dict[str, str]] = []
    if (table := folder / "trials.csv").exists():
        with open(table, newline="") as file:
            trials = list(csv.DictReader(file))
    states = Counter(trial["state"] for trial in trials)
    running = sum(held(path) for path in (folder / f"{STUDY}.locks").glob("[0-9]*"))
    states["running"] = running  # as it is now, not as it was when the table was written
    best = max((float(trial["validation_accuracy"]) for trial in trials if trial["state"] == "complete"), default=None)
    progress = ", ".join(f"{states[state]} {state}" for state in ("complete", "pruned", "running") if states[state])
    return Listed(folder, time.strftime("%Y-%m-%d %H:%M", time.localtime((folder / STUDY).stat().st_mtime)),
                  "search_mlp_pytorch", Acting({}, {}), "" if best is None else f"{best:.4f} validation",
                  sum(float(trial["seconds"] or 0) for trial in trials), f"trials: {progress or 'none yet'}")


def held(path: Path) -> bool:
    """Whether a process holds the lock on this file."""
    if not path.exists():
        return False
    try:
        lock(path).close()
        return False
    except BlockingIOError:
        return True
    except OSError:  # a folder of someone else
        return False


def duration(seconds: float) -> str:
    """Hours, minutes and seconds; '' for 0, which stands for unknown."""
    if not seconds:
        return ""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"


def table(runs: list[Listed], width: int | None = None) -> str:
    """The runs as lines: date, script, accuracy, time, state, folder, and in which flags those of a script differ.

    width: of the terminal, where it is one. Flags that do not fit are wrapped; where that leaves too little room for
    them, they and the folder have lines of their own.
    """
    flags: dict[Path, str] = {}
    for script in {run.script for run in runs}:
        same = [run for run in runs if run.script == script]
        flags |= dict(zip([run.folder for run in same], differing([run.flags for run in same]), strict=True))
    lines = [["started", "script", "accuracy", "time", "state", "folder", "flags that differ"]]
    lines += [[run.started, run.script, run.accuracy, duration(run.seconds), run.state, str(run.folder),
               flags[run.folder]] for run in sorted(runs, key=lambda run: (run.started, run.folder))]
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    rows = ["  ".join(map(str.ljust, line, widths)).rstrip() for line in lines]
    if width is None:
        return "\n".join(rows)
    before = sum(widths[:-1]) + 2 * len(widths[:-1])  # columns, and two spaces behind each
    if width - before >= FLAGS_WIDTH:
        return "\n".join(wrapped(row, width, " " * before) for row in rows)
    return "\n".join(wrapped(part, width, " " * 4, first) for line in lines for part, first in (
        ("  ".join(map(str.ljust, line[:-2], widths)).rstrip(), ""), (line[-2], "  "), (line[-1], "  ")) if part)
