"""A run's folder: its lock, its description, the rows of metrics.csv, checkpoints and summary.

Every file is replaced whole or not at all, but for metrics.csv, which grows by whole rows.
"""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import itertools
import json
import os
import time
from pathlib import Path
from typing import IO, Any

from imagefiles.dataset import quoted
from training.checkpoints import NPZ, CheckpointFormat, lock, write_json
from training.console import say
from training.curves import draw_or_notice, plot_curves
from training.events import events_writer, write_events
from training.flags import TrainingFlags, UserError
from training.machine import describe_machine
from training.metrics import METRICS, read_metrics, write_metrics
from training.resume import check_same_run, check_unchanged_flags, path_from


class RunFolder:
    """The folder of the run that this process writes. It is locked until `close`, or until the process ends.

    path: the folder. rows: those of metrics.csv, up to where this run is. events: TensorBoard's writer, or None.
    """

    silent = False

    def __init__(self, path: Path, format: CheckpointFormat, held: IO[str]):
        self.path, self.format, self._held = path, format, held
        self.rows: list[dict[str, Any]] = []
        self.events: Any = None
        self._resumed: TrainingFlags | None = None  # until the folder is that of the run as it continues

    def close(self) -> None:
        if self.events:
            self.events.close()
        self._held.close()

    def say(self, text: str) -> None:
        say(text)

    def describe(self, config: TrainingFlags, script: str, data: Any) -> None:
        """Write config.json of a new run, and a metrics.csv without rows."""
        write_json(self.path / "config.json", {
            "script": script, "flags": dataclasses.asdict(config), "data": data.state, "data_name": data.name,
            "data_digest": data.digest,
            "data_dir_from_here": path_from(self.path, config.data_dir),
            "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"), **describe_machine()})
        write_metrics(self.path, self.rows)

    def resume(self, config: TrainingFlags) -> None:
        """Continue from `rows`. What the folder holds beyond them is kept until there is a new checkpoint."""
        self._resumed = config
        self._beyond = read_metrics(self.path / "metrics.csv")[len(self.rows):]

    def _take_over(self) -> None:
        """Make a resumed run's folder its own: the rows up to here, and the flags as they are now."""
        if self._resumed is None:
            return
        write_metrics(self.path, self.rows)
        described = json.loads((self.path / "config.json").read_text())
        described["flags"] |= {name: value for name, value in dataclasses.asdict(self._resumed).items()
                               if name not in ("output_dir", "resume")}
        described["data_dir_from_here"] = path_from(self.path, self._resumed.data_dir)
        described.pop("ended", None)
        write_json(self.path / "config.json", described)
        self._resumed = None

    def append(self, rows: list[dict[str, Any]]) -> None:
        self.rows += rows
        if self._resumed:
            beyond = [row for row in self._beyond if row["step"] > rows[-1]["step"]]
            write_metrics(self.path, [*self.rows, *beyond])
        else:
            with open(self.path / "metrics.csv", "a", newline="") as file:
                csv.DictWriter(file, METRICS).writerows(rows)
        self._to_tensorboard(rows)

    def add_last(self, row: dict[str, Any]) -> None:
        """Put the row of the last evaluation in the place of an earlier one of its split."""
        self.rows = [*(old for old in self.rows if old["split"] != row["split"]), row]
        write_metrics(self.path, self.rows)
        self._to_tensorboard([row])

    def _to_tensorboard(self, rows: list[dict[str, Any]]) -> None:
        if self.events:
            write_events(self.events, rows)

    def save(self, name: str, checkpoint: dict[str, Any]) -> None:
        """Write the checkpoint `name`, 'last' or 'best'."""
        self.format.save(self.path / f"{name}{self.format.suffix}", checkpoint)
        if name == "last" and self._resumed:
            (self.path / "summary.json").unlink(missing_ok=True)
            self._take_over()

    def finish(self, summary: dict[str, Any]) -> None:
        """Write the summary, and then the curves, without which a run is finished all the same."""
        self._take_over()
        write_json(self.path / "summary.json", summary)
        self.draw()

    def end_early(self, reason: str) -> None:
        """Note in config.json why the run ended, and draw the curves up to there."""
        with contextlib.suppress(OSError):  # what ends the run is worth more
            described = json.loads((self.path / "config.json").read_text())
            write_json(self.path / "config.json", described | {"ended": reason})
        self.draw()

    def draw(self) -> None:
        """The curves of the rows that there are."""
        if self.rows:
            draw_or_notice(lambda: plot_curves([self.path], self.path / "curves"))

    @property
    def has_checkpoint(self) -> bool:
        """Whether it, or a repeat inside it, can be resumed."""
        name = f"last{self.format.suffix}"
        return (self.path / name).exists() or any(self.path.glob(f"*/{name}"))

    def way_on(self) -> str:
        """What a user can do with a run that ended early."""
        if self.has_checkpoint:
            return f"continue with --resume {quoted(self.path)}"
        return f"there is no checkpoint yet: remove {quoted(self.path)} and start again"


class SilentFolder:
    """What a process that follows another one has: it keeps rows in memory and writes nothing."""

    silent = True

    def __init__(self, path: Path, format: CheckpointFormat, unnamed: bool):
        self.path, self.format, self.unnamed = path, format, unnamed
        self.rows: list[dict[str, Any]] = []

    def close(self) -> None: ...

    def say(self, text: str) -> None: ...

    def resume(self, config: TrainingFlags) -> None: ...

    def append(self, rows: list[dict[str, Any]]) -> None:
        self.rows += rows

    def add_last(self, row: dict[str, Any]) -> None:
        self.rows.append(row)

    def save(self, name: str, checkpoint: dict[str, Any]) -> None: ...

    def finish(self, summary: dict[str, Any]) -> None: ...

    def end_early(self, reason: str) -> None: ...

    def way_on(self) -> str:
        """For where the process that writes may be gone; it alone knows a folder that is named after the time."""
        if (self.path / f"last{self.format.suffix}").exists():
            return f"continue with --resume {quoted(self.path)}"
        return f"continue with --resume and the newest folder in {quoted(self.path)}" if self.unnamed else ""


Folder = RunFolder | SilentFolder


def open_folder(config: Any, script: str, data: Any, format: CheckpointFormat, silent: bool = False) -> Folder:
    """The folder that `config` names, new or to be resumed, locked. Raises UserError; nothing is changed then.

    script: its name, for results/<script>/<time>. silent: this process only follows another one that writes.
    """
    if format is NPZ and "TORCHELASTIC_RUN_ID" in os.environ and os.environ.get("WORLD_SIZE", "1") != "1":
        raise UserError("runs in one process: start it with python, not with torchrun")
    writer = events_writer() if config.tensorboard == "on" else None
    if config.resume:
        path = _folder_to_resume(config, data)
    else:
        path = Path(config.output_dir or f"results/{script}")
        if not silent:
            path = _made(path, new=not config.output_dir)
    if silent:
        return SilentFolder(path, format, unnamed=not config.resume and not config.output_dir)
    folder = RunFolder(path, format, _lock(path, "resume" if config.resume else "output_dir"))
    if not config.resume:
        if any((path / name).exists() for name in ("config.json", "metrics.csv", "summary.json")):
            folder.close()
            instead = folder.way_on() if folder.has_checkpoint else "remove that one, which has no checkpoint yet"
            raise UserError(f"--output_dir: {quoted(path)} already holds a run, which is never overwritten; "
                            f"choose another folder, or {instead}")
        folder.describe(config, script, data)
    if writer:
        folder.events = writer(str(path))
    return folder


def _made(path: Path, new: bool) -> Path:
    """The folder `path`; with `new`, a new one inside it that is named after the time."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        name = time.strftime("%Y-%m-%d_%H-%M-%S")
        for number in itertools.count() if new else ():
            with contextlib.suppress(FileExistsError):  # another run that started in the same second
                (inside := path / (f"{name}_{number}" if number else name)).mkdir()
                return inside
        return path
    except OSError as error:
        raise _unwritable(path, "output_dir", error) from None


def _unwritable(path: Path, flag: str, error: OSError) -> UserError:
    instead = "; choose another" if flag == "output_dir" else ""
    return UserError(f"--{flag}: cannot write to {quoted(path)}: {error.strerror}{instead}")


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
        return lock(path / ".lock")
    except BlockingIOError:
        raise UserError(f"{quoted(path)} is in use by another run; wait for it, or choose another folder") from None
    except OSError as error:
        raise _unwritable(path, flag, error) from None
