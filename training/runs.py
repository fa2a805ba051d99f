"""Runs side by side: the flags in which they differ, and a list of those under a folder with what became of them."""

from __future__ import annotations

import csv
import json
import os
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from training.checkpoints import lock
from training.metrics import read_metrics

PLACES = ("data_dir", "output_dir", "resume", "device")  # flags that do not change what is learned
STUDY = "study.log"  # what search_mlp_pytorch.py leaves


@dataclass(frozen=True)
class Listed:
    """A run, or a study, in the list: what its columns say."""

    folder: Path
    started: str
    script: str
    flags: dict[str, Any]
    accuracy: str
    seconds: float
    state: str


def differing(runs: list[dict[str, Any]]) -> list[str]:
    """For each run's flags, those in which the runs differ, as on a command line; '' where they do not."""
    common = set.intersection(*map(set, runs)) - set(PLACES) if runs else set()
    names = [name for name in (runs or [{}])[0] if name in common and len({repr(run[name]) for run in runs}) > 1]

    def shown(value: Any) -> str:
        return (",".join(map(str, value)) if isinstance(value, list) else str(value)) or "''"

    return [" ".join(f"--{name} {shown(run[name])}" for name in names) for run in runs]


def labels(folders: list[Path]) -> list[str]:
    """A label for each run: its script and the flags in which it differs from the others; its folder's name where those
    are the same for two."""
    configs = [json.loads((folder / "config.json").read_text()) for folder in folders]
    several = len({config["script"] for config in configs}) > 1
    found = [f"{config['script']} {flags}".strip() if several else flags
             for config, flags in zip(configs, differing([config["flags"] for config in configs]), strict=True)]
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
        accuracy = f"{summary['test_accuracy']:.4f} test" if summary else ""
    step = f" at step {evaluated[-1]['step']}" if evaluated else ""
    if summary:
        state = "finished"
    elif held(folder / ".lock"):
        state = f"running{step}"
    else:
        state = config.get("ended") or f"stopped{step}"
    seconds = summary.get("wall_seconds") or (rows[-1]["seconds"] if rows else 0.0)
    started = config["started"][:16].replace("T", " ")
    return Listed(folder, started, config["script"], config["flags"], accuracy, seconds, state)


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
                  "search_mlp_pytorch", {}, "" if best is None else f"{best:.4f} validation",
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
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"


def table(runs: list[Listed]) -> str:
    """The runs as lines: date, script, accuracy, time, state, folder, and in which flags those of a script differ."""
    flags: dict[Path, str] = {}
    for script in {run.script for run in runs}:
        same = [run for run in runs if run.script == script]
        flags |= dict(zip([run.folder for run in same], differing([run.flags for run in same]), strict=True))
    lines = [["started", "script", "accuracy", "time", "state", "folder", "flags that differ"]]
    lines += [[run.started, run.script, run.accuracy, duration(run.seconds), run.state, str(run.folder),
               flags[run.folder]] for run in sorted(runs, key=lambda run: (run.started, run.folder))]
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)
