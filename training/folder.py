"""A run's folder: its lock, its description, the rows of metrics.csv, checkpoints and summary.

Every file is replaced whole or not at all, but for metrics.csv, which grows by whole rows.
"""

from __future__ import annotations

import csv
import dataclasses
import json
import sys
import time
from pathlib import Path
from typing import IO, Any

from tqdm import tqdm

from training.checkpoints import CheckpointFormat, lock, write_json
from training.curves import METRICS, plot_curves, write_metrics
from training.flags import TrainingFlags, UserError
from training.machine import describe_machine
from training.resume import check_same_run, check_unchanged_flags


class RunFolder:
    """The folder of the run that this process writes. It is locked until `close`, or until the process ends.

    path: the folder. rows: what metrics.csv holds.
    """

    silent = False

    def __init__(self, path: Path, format: CheckpointFormat, held: IO[str]):
        self.path, self.format, self._held = path, format, held
        self.rows: list[dict[str, Any]] = []

    def close(self) -> None:
        self._held.close()

    def say(self, text: str) -> None:
        """Print a line above the progress bar."""
        tqdm.write(text, file=sys.stdout)
        sys.stdout.flush()

    def describe(self, config: TrainingFlags, script: str, data: Any) -> None:
        """Write config.json of a new run, and a metrics.csv without rows."""
        write_json(self.path / "config.json", {
            "script": script, "flags": dataclasses.asdict(config), "data": data.state, "data_name": data.name,
            "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"), **describe_machine()})
        write_metrics(self.path, self.rows)

    def describe_again(self, config: TrainingFlags, finished: bool) -> None:
        """Make the folder that of a run which continues: only the rows kept, the flags as they are now, no summary."""
        write_metrics(self.path, self.rows)
        if not finished:
            (self.path / "summary.json").unlink(missing_ok=True)
        described = json.loads((self.path / "config.json").read_text())
        described["flags"] |= {name: value for name, value in dataclasses.asdict(config).items()
                               if name not in ("output_dir", "resume")}
        write_json(self.path / "config.json", described)

    def append(self, rows: list[dict[str, Any]]) -> None:
        self.rows += rows
        with open(self.path / "metrics.csv", "a", newline="") as file:
            csv.DictWriter(file, METRICS).writerows(rows)

    def replace_rows(self, rows: list[dict[str, Any]]) -> None:
        self.rows = rows
        write_metrics(self.path, rows)

    def save(self, name: str, checkpoint: dict[str, Any]) -> None:
        """Write the checkpoint `name`, 'last' or 'best'."""
        self.format.save(self.path / f"{name}{self.format.suffix}", checkpoint)

    def finish(self, summary: dict[str, Any]) -> None:
        write_json(self.path / "summary.json", summary)

    def plot(self) -> None:
        plot_curves([self.path], self.path / "curves")


class SilentFolder:
    """What a process that only follows has in place of a RunFolder: it keeps rows in memory and writes nothing."""

    silent = True

    def __init__(self, path: Path, format: CheckpointFormat):
        self.path, self.format = path, format
        self.rows: list[dict[str, Any]] = []

    def close(self) -> None: ...

    def say(self, text: str) -> None: ...

    def describe(self, config: TrainingFlags, script: str, data: Any) -> None: ...

    def describe_again(self, config: TrainingFlags, finished: bool) -> None: ...

    def append(self, rows: list[dict[str, Any]]) -> None:
        self.rows += rows

    def replace_rows(self, rows: list[dict[str, Any]]) -> None:
        self.rows = rows

    def save(self, name: str, checkpoint: dict[str, Any]) -> None: ...

    def finish(self, summary: dict[str, Any]) -> None: ...

    def plot(self) -> None: ...


Folder = RunFolder | SilentFolder


def open_folder(config: Any, script: str, data: Any, format: CheckpointFormat, silent: bool = False) -> Folder:
    """The folder that `config` names, new or to be resumed, locked. Raises UserError; nothing is changed then.

    script: its name, for results/<script>/<time>. silent: this process only follows another one that writes.
    """
    if config.resume:
        path = _folder_to_resume(config, data)
    elif silent:
        path = Path(config.output_dir)
    else:
        path = Path(config.output_dir) if config.output_dir else _unused(Path("results") / script)
    if silent:
        return SilentFolder(path, format)
    folder = RunFolder(path, format, _lock(path, "resume" if config.resume else "output_dir"))
    if not config.resume:
        if any((path / name).exists() for name in ("config.json", "metrics.csv", "summary.json")):
            folder.close()
            raise UserError(f"--output_dir: {path} already holds a run, which is never overwritten; "
                            f"choose another folder, or continue that run with --resume {path}")
        folder.describe(config, script, data)
    return folder


def _unused(parent: Path) -> Path:
    """A folder below `parent` that is named after the time and does not exist."""
    stem = parent / time.strftime("%Y-%m-%d_%H-%M-%S")
    return next(path for n in range(10**6)
                if not (path := stem.with_name(stem.name + (f"_{n}" if n else ""))).exists())


def _folder_to_resume(config: Any, data: Any) -> Path:
    resume = Path(config.resume)
    path = resume if resume.is_dir() else resume.parent
    if config.output_dir and Path(config.output_dir).resolve() != path.resolve():
        raise UserError("--output_dir: a resumed run stays in its own folder; leave the flag out")
    check_unchanged_flags(config, resume)
    check_same_run(path, data)
    return path


def _lock(path: Path, flag: str) -> IO[str]:
    try:
        if flag == "output_dir":
            path.mkdir(parents=True, exist_ok=True)
        return lock(path / ".lock")
    except BlockingIOError:
        raise UserError(f"{path} is in use by another run; wait for it, or choose another folder") from None
    except OSError as error:
        instead = "; choose another" if flag == "output_dir" else ""
        raise UserError(f"--{flag}: cannot write to {path}: {error.strerror}{instead}") from None
