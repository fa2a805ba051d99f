"""Checkpoint files: written whole or not at all, read without executing anything.

The NumPy scripts keep theirs as .npz (arrays under their names, such as state.params.layers.0.weight, and one JSON text
for everything else); `trainer` adds .pt.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from imagefiles.dataset import quoted
from training.console import notice_once


class CheckpointError(Exception):
    """A checkpoint that is missing, truncated or of another program: one line that names it and the way out."""


@dataclass(frozen=True)
class CheckpointFormat:
    """File ending, save(path, checkpoint) and load(path) -> checkpoint, a nested dict."""

    suffix: str
    save: Callable[[Path, dict[str, Any]], None]
    load: Callable[[Path], dict[str, Any]]


@contextlib.contextmanager
def atomic_write(path: Path, mode: str = "wb") -> Iterator[IO]:
    """Write to a temporary name, then rename: a reader sees the old file or the new one, never half of one."""
    temporary = path.with_name(f".{path.name}.part")
    try:
        with open(temporary, mode, newline=None if "b" in mode else "") as file:
            yield file
            file.flush()
            _to_disk(file)
        os.replace(temporary, path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        if isinstance(error, OSError) and error.filename in (None, str(temporary)):  # a full disk names no file
            error.filename = str(path)
        raise


UNSUPPORTED = {errno.ENOSYS, errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP}  # by a network's or a virtual file system


def _to_disk(file: IO) -> None:
    try:
        os.fsync(file.fileno())
    except OSError as error:
        if error.errno not in UNSUPPORTED | {errno.EINVAL}:
            raise
        notice_once("this file system cannot write at once (fsync): a power cut may damage the newest files.")


def write_json(path: Path, value: Any) -> None:
    with atomic_write(path, "w") as file:
        json.dump(value, file, indent=2)


def lock(path: Path, wait: bool = False) -> IO[str]:
    """Hold the kernel's lock on the file `path` until what is returned is closed or this process ends.

    Raises:
        BlockingIOError: another process holds it, and `wait` is false.
    """
    file = open(path, "w")  # noqa: SIM115 (the caller closes it)
    try:
        with contextlib.suppress(ImportError):  # not a POSIX system: nothing to lock with
            import fcntl
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError as error:
        if error.errno not in UNSUPPORTED:
            file.close()
            raise
        notice_once("this file system has no locks (flock): nothing keeps two runs out of one folder.")
    except BaseException:
        file.close()
        raise
    return file


def missing(path: Path) -> CheckpointError:
    """Of a checkpoint that is not there. Only a run that ended before its first one is to be removed."""
    folder = path.parent
    if not (folder / "config.json").exists():
        return CheckpointError(f"{path} does not exist; give a run folder such as results/<script>/<time>")
    if (folder / "summary.json").exists():
        return CheckpointError(f"{path} does not exist: of this run its figures and tables alone were kept; "
                               "train it again with the flags in its config.json")
    return CheckpointError(f"{path} does not exist: this run ended before its first checkpoint; remove "
                           f"{quoted(folder)} and start it again")


def damaged(path: Path) -> CheckpointError:
    return CheckpointError(f"{path} is not a whole checkpoint (damaged, or made by something else); "
                           f"use another, or start again")


def whole(path: Path, checkpoint: Any) -> dict[str, Any]:
    """`checkpoint`, read from `path`, if it is the dict that every checkpoint is. Raises CheckpointError."""
    if not isinstance(checkpoint, dict):
        raise damaged(path)
    return checkpoint


def number(value: Any, kind: type = float) -> Any:
    """`value`, read from a checkpoint, if it is a plain finite number of this kind. Raises TypeError."""
    if type(value) not in (int, kind) or not abs(value) < 2**63:
        raise TypeError(f"{value!r} is not of type {kind.__name__}")
    return value


def _save_npz(path: Path, checkpoint: dict[str, Any]) -> None:
    arrays: dict[str, np.ndarray] = {}

    def without_arrays(value: Any, name: str) -> Any:
        """`value`, with {"array": its name} for each array in it; an array's name is the way to it."""
        if isinstance(value, np.ndarray):
            arrays[name] = value
            return {"array": name}
        if isinstance(value, dict):
            return {key: without_arrays(inner, f"{name}.{key}".lstrip(".")) for key, inner in value.items()}
        if isinstance(value, list):
            return [without_arrays(inner, f"{name}.{number}") for number, inner in enumerate(value)]
        return value

    text = json.dumps(without_arrays(checkpoint, ""))
    with atomic_write(path) as file:
        np.savez(file, checkpoint=np.array(text), **arrays)  # type: ignore[arg-type]  # NumPy's stub wants bools


def _load_npz(path: Path) -> dict[str, Any]:
    if not path.exists():
        raise missing(path)
    try:
        with np.load(path, allow_pickle=False) as file:
            if sum(member.file_size for member in file.zip.infolist()) > path.stat().st_size:
                raise damaged(path)  # ours are not compressed: one that unpacks to more may fill the memory
            left = set(file.files)  # an array that is named again is not read again

            def give_array(value: dict[str, Any]) -> Any:
                if value.keys() != {"array"}:
                    return value
                left.remove(value["array"])
                return file[value["array"]]

            return whole(path, json.loads(str(file["checkpoint"]), object_hook=give_array))
    except Exception:  # NumPy, zipfile, zlib, ast, tokenize and json have many ways to stumble over foreign bytes
        raise damaged(path) from None


NPZ = CheckpointFormat(".npz", _save_npz, _load_npz)
