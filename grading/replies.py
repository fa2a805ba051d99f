"""What is asked of a worker and what it answers: probes and replies.

A reply is untrusted: arrays come as .npz, read with `allow_pickle=False` after their sizes are checked, notes as JSON;
whether they are right is for the checks to say.
"""

from __future__ import annotations

import contextlib
import io
import json
import signal
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import IO, Any

import numpy as np

from grading.files import ONE_PARSER
from grading.worker.watch import FRAMES, NEAR

MOST_ARRAY_BYTES = 64 * 2**20
MOST_LINE_BYTES = 2**20
MOST_LEVELS = 20  # of a note: what compares or prints one calls itself for each


@dataclass(frozen=True)
class Limits:
    """What one question may use.

    Seconds of wall time, less the time that it was kept waiting for a processor. CPU time is limited to the same.
    """

    seconds: float = 120
    probe_seconds: float = 30
    memory_mb: int = 3072
    disk_mb: int = 1024
    file_mb: int = 300
    processes: int = 64


@dataclass(frozen=True)
class Probe:
    """What a worker is asked: a function of `grading.worker`, with inputs.

    seconds: None for the question's usual limit. needs: the submission's file without which there is nothing to run.
    question: whose it is, where a worker runs several: each has time of its own.
    """

    function: str
    arrays: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    seconds: float | None = None
    needs: str = ""
    question: str = ""


@dataclass(frozen=True)
class Reply:
    """What came back. `error` is None where the probe ran to its end; arrays and notes are what it sent until then.

    seen: what the submission did that no answer needs (`worker.watch`).
    """

    arrays: Mapping[str, np.ndarray] = field(default_factory=dict)
    notes: Mapping[str, Any] = field(default_factory=dict)
    error: str | None = None
    output: str = ""
    seconds: float = 0.0
    seen: tuple[str, ...] = ()


EARLY = "the code ended its process in the middle of the check"
ENDS = {
    "early": EARLY,
    "wall time": "stopped: it ran longer than {seconds:.0f} s",
    "cpu time": "stopped: it used more processor time than allowed",
    "memory": "stopped: all its processes together used more than {memory} MB of memory",
    "files": "stopped: it made more files than allowed",
    "no time left": "not run: the checks before it used up the question's time",
}


def read_line(stream: IO[bytes]) -> bytes:
    """One line; b'' at the end. Raises ValueError on one that is too long."""
    line = stream.readline(MOST_LINE_BYTES)
    if line and not line.endswith(b"\n"):
        raise ValueError("a cut line")
    return line


def read_bytes(stream: IO[bytes], size: int) -> bytes:
    if not 0 <= size <= MOST_ARRAY_BYTES:
        raise ValueError("too much")
    content = stream.read(size)
    if len(content) < size:
        raise EOFError
    return content


class Left(Exception):
    """A worker has ended itself because of what it ran: why, in words."""


def read_reply(stream: IO[bytes], name: str, limits: Limits) -> Reply:
    """The next reply from a worker's output, which is that of the probe `name`; anything odd about it is its error.

    Raises:
        Left: the worker ended itself because of what it ran.
        ValueError, EOFError: the worker has ended without a word, or is not what it was.
    """
    status = json.loads(read_line(stream) or b"null")
    if isinstance(status, dict) and "left" in status:
        raise Left(str(status["left"]))
    if not isinstance(status, dict) or status.get("name") != name:
        raise ValueError("out of step")
    raw, arrays, log = (read_bytes(stream, int(size)) for size in status["sizes"])
    output, seconds = log.decode("utf-8", errors="replace"), float(status.get("seconds", 0))
    said = status.get("seen", [])
    known = {name if name in NEAR or name in FRAMES else "writes to the worker's files" for name in said if name}
    seen = tuple(sorted(known))
    if status["end"] != "ended":
        error = ENDS.get(status["end"], str(status["end"])).format(seconds=seconds, memory=limits.memory_mb)
        return Reply(error=error, output=output, seconds=seconds, seen=seen)
    if (code := int(status["code"])) or not raw:
        error = (f"the code was ended by signal {-code} ({signal_name(-code)}) in the middle of the check" if code < 0
                 else EARLY)
        return Reply(error=error, output=output, seconds=seconds, seen=seen)
    try:
        reply = json.loads(raw)
        error, notes = reply["error"], reply["notes"]
        if not isinstance(notes, dict) or not isinstance(error, str | None):
            raise ValueError
        if deeper(notes, MOST_LEVELS):
            raise ValueError
        with ONE_PARSER:  # a header is a Python literal
            found = read_arrays(arrays)
    except (ValueError, KeyError, TypeError, RecursionError, OSError, EOFError, zipfile.BadZipFile, NotImplementedError,
            MemoryError, SyntaxError, OverflowError, RuntimeError):
        return Reply(error="the reply of the check is damaged", output=output, seconds=seconds, seen=seen)
    return Reply(found, notes, None if error is None else one_line(error), output, seconds, seen)


def deeper(value: Any, levels: int) -> bool:
    """Whether lists and objects lie in each other at more than this many levels."""
    inner = [value]
    for _ in range(levels):
        inner = [part for one in inner if isinstance(one, list | dict)
                 for part in (one.values() if isinstance(one, dict) else one)]
    return any(isinstance(one, list | dict) for one in inner)


def signal_name(number: int) -> str:
    with contextlib.suppress(ValueError):
        return signal.Signals(number).name
    return "unknown"


def one_line(text: str, most: int = 400) -> str:
    """Printable text on one line."""
    return " ".join("".join(c if c.isprintable() else " " for c in str(text)).split())[:most]


def read_arrays(content: bytes) -> dict[str, np.ndarray]:
    """Arrays of numbers from an .npz of an untrusted worker; no more memory than the file has bytes."""
    arrays = {}
    with zipfile.ZipFile(io.BytesIO(content)) as file:
        members = file.infolist()
        if len(members) > 1000 or sum(member.file_size for member in members) > MOST_ARRAY_BYTES:
            raise ValueError("too much")
        for member in members:
            if member.compress_type != zipfile.ZIP_STORED or not member.filename.endswith(".npy"):
                raise ValueError("not what np.savez writes")
            stream = io.BytesIO(file.read(member))
            if np.lib.format.read_magic(stream) != (1, 0):
                raise ValueError("unknown version")
            shape, _, kind = np.lib.format.read_array_header_1_0(stream)
            left = member.file_size - stream.tell()
            if kind.kind not in "biuf" or any(n < 0 for n in shape) or _product(shape) * kind.itemsize > left:
                raise ValueError("not an array of numbers")
            stream.seek(0)
            arrays[member.filename.removesuffix(".npy")] = np.lib.format.read_array(stream, allow_pickle=False)
    return arrays


def _product(numbers: Sequence[int]) -> int:
    product = 1
    for number in numbers:
        product *= number
    return product
