"""Runs probes on a submission in a confined worker, and reads back what it answers.

    with Sandbox(work) as sandbox:
        replies = sandbox.run(code, {"linear": Probe("linear", arrays={...})}, limits, data={}, torch=False)
        replies["linear"].arrays["forward"]

This process never imports a submission. A reply is untrusted: arrays come as .npz, read with `allow_pickle=False` after
their sizes are checked, notes as JSON; whether they are right is for the checks to say.
"""

from __future__ import annotations

import contextlib
import io
import json
import secrets
import signal
import sys
import threading
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np

from grading.confinement import PLACE, Confined, ConfinementError
from grading.container import Contained
from grading.files import ONE_PARSER

MOST_ARRAY_BYTES = 64 * 2**20
MOST_LINE_BYTES = 2**20
START_SECONDS = 120  # on top of a worker's own time, for its start
PATIENCE = 5  # a worker's clock stops while the processor is busy with others, but not for more than this


@dataclass(frozen=True)
class Limits:
    """What one question's worker may use.

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
    """

    function: str
    arrays: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    seconds: float | None = None
    needs: str = ""


@dataclass(frozen=True)
class Reply:
    """What came back. `error` is None where the probe ran to its end; arrays and notes are what it sent until then."""

    arrays: Mapping[str, np.ndarray] = field(default_factory=dict)
    notes: Mapping[str, Any] = field(default_factory=dict)
    error: str | None = None
    output: str = ""
    seconds: float = 0.0


class Sandbox:
    """Workers, one for each question of each submission, and what they may be shown. Use as a context manager.

    work: a folder of the grader's own, which no worker sees. network: leave the machine's network open to workers,
    where the kernel cannot close it. container: where bubblewrap cannot confine, rely on the container around the
    grader (`grading.container` says what that is worth).
    """

    def __init__(self, work: Path, network: bool = False, container: bool = False):
        self.work, self.network, self.container = work, network, container
        self._worker: type[Confined] | type[Contained] = Confined
        self._refused = ""  # why bubblewrap cannot confine here, where the container is relied on instead
        self._running: set[Confined | Contained] = set()
        self._lock = threading.Lock()
        self._closed = False
        self._tried = False

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End every worker."""
        with self._lock:
            self._closed = True
            for worker in self._running:
                worker.kill()

    def try_out(self) -> None:
        """Confine something harmless, once. Raises ConfinementError where that cannot be done."""
        with self._lock:
            if self._tried:
                return
            try:
                self._try_out(Confined)
            except ConfinementError as error:
                if not self.container:
                    raise
                self._try_out(Contained)
                self._worker, self._refused = Contained, str(error)
            self._tried = True

    def _try_out(self, kind: type[Confined] | type[Contained]) -> None:
        with kind(["sh", "-c", "echo started; exec sleep 60"], {}, 1, self.network) as worker:
            worker.stdout.readline()  # bubblewrap and setpriv have done their work
            worker.prove(self.network)

    def warnings(self) -> list[str]:
        """One line for each protection that workers do without."""
        self.try_out()
        if self._refused:
            return [f"the container alone confines submissions (--container), with its network: {self._refused}"]
        return ["the network is open to submissions (--allow-network)"] if self.network else []

    def run(self, code: Path, probes: Mapping[str, Probe], limits: Limits, data: Mapping[str, Path],
            torch: bool) -> dict[str, Reply]:
        """Run `probes` ({name: probe}) in one worker on the folder `code`, in order.

        data: folders the worker may read, by the name that probes know them by.

        Returns:
            A reply for every probe, whatever happened.

        Raises:
            ConfinementError: the worker cannot be confined, so that nothing was run.
        """
        absent = {name: Reply(error=f"Absent: {probe.needs} is not in the submission") for name, probe in probes.items()
                  if probe.needs and not (code / probe.needs).is_file()}
        probes = {name: probe for name, probe in probes.items() if name not in absent}
        return absent | (self._run(code, probes, limits, data, torch) if probes else {})

    def _run(self, code: Path, probes: Mapping[str, Probe], limits: Limits, data: Mapping[str, Path],
             torch: bool) -> dict[str, Reply]:
        self.try_out()
        canary = self.work / f"canary-{secrets.token_hex(8)}"
        canary.touch()
        inputs = io.BytesIO()
        np.savez(inputs, **{f"{name}/{key}": value for name, probe in probes.items()
                            for key, value in probe.arrays.items()})
        job = {"limits": asdict(limits), "inputs": inputs.tell(), "probes": [
            {"name": name, "function": probe.function, "options": dict(probe.options),
             "seconds": probe.seconds or limits.probe_seconds} for name, probe in probes.items()]}
        program = [sys.executable, "-I", "-B", f"{PLACE}/serve.py", str(canary), "open" if self.network else "closed",
                   *(["--torch"] if torch else [])]
        shown = {"/submission": code} | {f"/data/{key}": path for key, path in data.items()}
        replies = {name: Reply(error="not run: the worker ended early") for name in probes}
        with self._worker(program, shown, int(limits.disk_mb), self.network) as worker:
            job["data"] = {key: worker.inside(f"/data/{key}") for key in data}
            clock = threading.Timer(PATIENCE * limits.seconds + START_SECONDS, worker.kill)
            self._enter(worker)
            try:
                clock.start()
                if json.loads(read_line(worker.stdout) or b"null") != {"confined": True}:
                    raise ConfinementError(f"a worker does not start: {worker.last_line() or 'no answer'}; numpy, "
                                           f"matplotlib and torch must be importable by {sys.executable} -I, and by "
                                           "every user of this machine")
                worker.prove(self.network)  # nothing of the submission is run before this
                if json.loads(read_line(worker.stdout) or b"null") != {"ready": True}:
                    raise ConfinementError("a worker ended before it ran anything of a submission: "
                                           f"{worker.last_line() or 'no answer'}")
                worker.stdin.write(json.dumps(job).encode() + b"\n" + inputs.getvalue())
                worker.stdin.flush()
                for name in probes:
                    replies[name] = read_reply(worker.stdout, name)
            except (OSError, ValueError, EOFError):
                pass  # the worker has ended: the rest was not run
            finally:
                self._leave(worker)
                canary.unlink()
                clock.cancel()
                if clock.ident:
                    clock.join()  # it must not go off at a worker that is gone
        return replies

    def _enter(self, worker: Confined | Contained) -> None:
        with self._lock:
            if self._closed:
                raise ConfinementError("the workers have been ended")
            self._running.add(worker)

    def _leave(self, worker: Confined | Contained) -> None:
        with self._lock:
            self._running.discard(worker)


ENDS = {
    "wall time": "stopped: it ran longer than {seconds:.0f} s",
    "cpu time": "stopped: it used more processor time than allowed",
    "memory": "stopped: it used more memory than allowed",
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


def read_reply(stream: IO[bytes], name: str) -> Reply:
    """The next reply from a worker's output, which is that of the probe `name`; anything odd about it is its error.

    Raises:
        ValueError, EOFError: the worker itself has ended, or is not what it was.
    """
    status = json.loads(read_line(stream) or b"null")
    if not isinstance(status, dict) or status.get("name") != name:
        raise ValueError("out of step")
    raw, arrays, log = (read_bytes(stream, int(size)) for size in status["sizes"])
    output, seconds = log.decode("utf-8", errors="replace"), float(status.get("seconds", 0))
    if status["end"] != "ended":
        error = ENDS.get(status["end"], str(status["end"])).format(seconds=seconds)
        return Reply(error=error, output=output, seconds=seconds)
    if not raw:
        code = int(status["code"])
        how = f"was ended by signal {-code} ({signal_name(-code)})" if code < 0 else "ended its process"
        return Reply(error=f"the code {how} in the middle of the check", output=output, seconds=seconds)
    try:
        reply = json.loads(raw)
        error, notes = reply["error"], reply["notes"]
        if not isinstance(notes, dict) or not isinstance(error, str | None):
            raise ValueError
        with ONE_PARSER:  # a header is a Python literal
            found = read_arrays(arrays)
    except (ValueError, KeyError, TypeError, RecursionError, OSError, EOFError, zipfile.BadZipFile, NotImplementedError,
            MemoryError, SyntaxError, OverflowError, RuntimeError):
        return Reply(error="the reply of the check is damaged", output=output, seconds=seconds)
    return Reply(found, notes, None if error is None else one_line(error), output, seconds)


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
