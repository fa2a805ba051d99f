"""Runs probes on a submission in confined workers, and reads back what they answer.

    with Sandbox(work) as sandbox:
        replies = sandbox.run(code, [Probe("linear", arrays={...})], limits, data={})
        replies["linear"].arrays["forward"]

This process never imports a submission. A reply is untrusted: arrays come as .npz, read with `allow_pickle=False` after
their sizes are checked, notes as JSON; whether they are right is for the checks to say.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

LAUNCHER = Path(__file__).parent / "worker" / "launcher.py"
MOST_ARRAY_BYTES = 256 * 2**20
GRACE_SECONDS = 20  # on top of a worker's own time, for its start and for clearing up
PATIENCE = 5  # a worker's clock stops while the processor is busy with others, but not for more than this
START_SECONDS = 120


class SandboxError(Exception):
    """The workers cannot run at all: a line that says why and the way out."""


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
    """Launchers (one with torch, one without), and a folder for the workers' files that nobody else may enter.

    features: what to use of what the machine allows; None tries it out. Use as a context manager.
    """

    def __init__(self, work: Path, features: Mapping[str, bool] | None = None):
        self.work, self._features = work, features
        self._launchers: dict[bool, _Launcher] = {}
        self._lock = threading.Lock()
        self._jobs = 0
        self._closed = False

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End every worker and launcher."""
        with self._lock:
            self._closed = True
            for launcher in self._launchers.values():
                launcher.close()
            self._launchers.clear()

    def _launcher(self, torch: bool) -> _Launcher:
        with self._lock:
            if self._closed:
                raise SandboxError("the workers have been ended")
            launcher = self._launchers.get(torch)
            if launcher is None or not launcher.alive:
                launcher = self._launchers[torch] = _Launcher(torch)
            return launcher

    @property
    def features(self) -> Mapping[str, bool]:
        """{'namespaces', 'network' (closed), 'uid'}: what protects this machine from the workers."""
        if self._features is None:
            folder = self.work / "features"
            folder.mkdir(parents=True, exist_ok=True)
            self._features = self._launcher(torch=False).features(folder)
        return self._features

    def warnings(self) -> list[str]:
        """One line for each protection this machine does not give."""
        features, lines = self.features, []
        if not features["namespaces"]:
            lines.append("this kernel gives no namespaces: workers can see the files this user can read"
                         + (" and everyone may" if features["uid"] else "") + "; use a machine kept for grading")
        if not features["network"]:
            lines.append("the network cannot be closed to the workers on this machine")
        if not features["uid"] and not features["namespaces"]:
            lines.append("workers run as this user, because it is not root; limits on processes count its own too")
        return lines

    def run(self, code: Path, probes: Mapping[str, Probe], limits: Limits, data: Mapping[str, Path],
            torch: bool) -> dict[str, Reply]:
        """Run `probes` ({name: probe}) in one worker on the folder `code`, in order.

        data: folders the worker may read, by the name that probes know them by.

        Returns:
            A reply for every probe, whatever happened.
        """
        absent = {name: Reply(error=f"Absent: {probe.needs} is not in the submission") for name, probe in probes.items()
                  if probe.needs and not (code / probe.needs).is_file()}
        probes = {name: probe for name, probe in probes.items() if name not in absent}
        return absent | (self._run(code, probes, limits, data, torch) if probes else {})

    def _run(self, code: Path, probes: Mapping[str, Probe], limits: Limits, data: Mapping[str, Path],
             torch: bool) -> dict[str, Reply]:
        features = self.features
        with self._lock:
            self._jobs += 1
            number = self._jobs
        folder = self.work / f"worker-{number}"
        for name in ("results", "scratch"):
            (folder / name).mkdir(parents=True)
        if not features["namespaces"]:
            folder.chmod(0o711)
            (folder / "scratch").chmod(0o711)
        (folder / "results").chmod(0o700)
        np.savez(folder / "inputs.npz", **{f"{name}/{key}": value for name, probe in probes.items()
                                          for key, value in probe.arrays.items()})
        job = {"code": str(code), "results": str(folder / "results"), "inputs": str(folder / "inputs.npz"),
               "scratch": str(folder / "scratch"), "data": {key: str(path) for key, path in data.items()},
               "features": dict(features), "limits": asdict(limits), "seconds": limits.seconds,
               "probes": [{"name": name, "function": probe.function, "options": dict(probe.options),
                           "seconds": probe.seconds or limits.probe_seconds} for name, probe in probes.items()]}
        (folder / "job.json").write_text(json.dumps(job))
        try:
            self._launcher(torch).run(folder / "job.json", PATIENCE * limits.seconds + GRACE_SECONDS)
            return {name: read_reply(folder / "results", name) for name in probes}
        finally:
            shutil.rmtree(folder, ignore_errors=True)


class _Launcher:
    """One launcher process; `run` may be called from several threads."""

    def __init__(self, torch: bool):
        environment = {key: value for key, value in os.environ.items()
                       if key in ("PATH", "HOME", "TMPDIR", "LD_LIBRARY_PATH", "SYSTEMROOT")}
        environment.update(OMP_NUM_THREADS="1", MKL_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", PYTHONHASHSEED="0",
                           CUDA_VISIBLE_DEVICES="", LANG="C.UTF-8")
        self.process = subprocess.Popen(
            [sys.executable, "-I", "-B", str(LAUNCHER), *(["--torch"] if torch else [])], cwd="/",
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment,
            start_new_session=True)  # Ctrl-C is for the grader, which then ends its workers
        self._events: dict[int, dict[str, Any]] = {}
        self._changed = threading.Condition()
        self._number = 0
        self._ready = False
        self._log = b""
        for target in (self._read_answers, self._read_log):
            threading.Thread(target=target, daemon=True).start()
        with self._changed:
            self._changed.wait_for(lambda: self._ready or not self.alive, START_SECONDS)
        if not self._ready:
            self.close()
            raise SandboxError("the workers do not start: " + (self.last_line() or "no answer")
                               + "; numpy, matplotlib and torch must be importable by "
                               f"{sys.executable} -I, so install them in its environment")

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    def last_line(self) -> str:
        return next(iter(self._log.decode(errors="replace").strip().splitlines()[-1:]), "")

    def _read_answers(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            message = json.loads(line)
            with self._changed:
                self._ready = self._ready or message.get("ready", False)
                self._events.setdefault(message.get("id", 0), {}).update(message)
                self._changed.notify_all()
        self.process.wait()
        with self._changed:
            self._changed.notify_all()

    def _read_log(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self._log = (self._log + line)[-10_000:]

    def _ask(self, request: dict[str, Any], answer: str, seconds: float) -> dict[str, Any]:
        """Send a request and wait for the field `answer` in what comes back; {} when it does not come."""
        assert self.process.stdin is not None
        with self._changed:
            self._number += 1
            number = self._number
            with contextlib.suppress(OSError, ValueError):
                self.process.stdin.write(json.dumps({"id": number, **request}).encode() + b"\n")
                self.process.stdin.flush()
            self._changed.wait_for(lambda: answer in self._events.get(number, {}) or not self.alive, seconds)
            return self._events.pop(number, {})

    def features(self, folder: Path) -> dict[str, bool]:
        answer = self._ask({"features": str(folder)}, "features", START_SECONDS)
        if "features" not in answer:
            raise SandboxError(f"the workers do not start: {self.last_line() or 'no answer'}")
        return answer["features"]

    def run(self, job: Path, seconds: float) -> None:
        """Run a job to its end, or end it after `seconds`."""
        answer = self._ask({"job": str(job)}, "exit", seconds)
        if "exit" not in answer and "pid" in answer:
            kill_group(answer["pid"])

    def close(self) -> None:
        kill_group(self.process.pid)  # its workers end with it: the kernel is asked to see to that in each of them
        self.process.wait()
        with contextlib.suppress(OSError):
            assert self.process.stdin is not None
            self.process.stdin.close()


def kill_group(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


ENDS = {
    "wall time": "stopped: it ran longer than {seconds:.0f} s",
    "cpu time": "stopped: it used more processor time than allowed",
    "memory": "stopped: it used more memory than allowed",
    "disk": "stopped: it wrote more to disk than allowed",
    "no time left": "not run: the checks before it used up the question's time",
}


def read_reply(results: Path, name: str) -> Reply:
    """The reply of one probe from the worker's results folder; anything odd about it is its error."""
    try:
        status = json.loads((results / f"{name}.status.json").read_bytes())
    except (OSError, ValueError):
        return Reply(error="not run: the worker ended early")
    output = (results / f"{name}.log").read_bytes().decode("utf-8", errors="replace")
    seconds = float(status.get("seconds", 0))
    if status["end"] != "ended":
        error = ENDS.get(status["end"], status["end"]).format(seconds=seconds)
        return Reply(error=error, output=output, seconds=seconds)
    raw = (results / f"{name}.reply.json").read_bytes()
    if not raw:
        code = status["code"]
        how = f"was ended by signal {-code} ({signal_name(-code)})" if code < 0 else "ended its process"
        return Reply(error=f"the code {how} in the middle of the check", output=output, seconds=seconds)
    try:
        reply = json.loads(raw)
        error, notes = reply["error"], reply["notes"]
        if not isinstance(notes, dict) or not isinstance(error, str | None):
            raise ValueError
        arrays = read_arrays((results / f"{name}.npz").read_bytes())
    except (ValueError, KeyError, TypeError, RecursionError, OSError, EOFError, zipfile.BadZipFile, NotImplementedError,
            MemoryError, SyntaxError, OverflowError, RuntimeError):
        return Reply(error="the reply of the check is damaged", output=output, seconds=seconds)
    return Reply(arrays, notes, None if error is None else one_line(error), output, seconds)


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
