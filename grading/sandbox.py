"""Runs probes on a submission in a confined worker, and reads back what it answers.

    with Sandbox(work) as sandbox:
        replies = sandbox.run(code, {"linear": Probe("linear", arrays={...})}, limits, data={}, torch=False)
        replies["linear"].arrays["forward"]

This process never imports a submission, and trusts no reply (`grading.replies`).
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import io
import json
import secrets
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from grading import cgroups, syscalls
from grading.confinement import PLACE, Confined, ConfinementError, hides
from grading.container import Contained
from grading.files import ABSENT, Trouble
from grading.replies import ENDS, Left, Limits, Probe, Reply, one_line, read_line, read_reply, signal_name
from grading.syscalls import NoFilter
from grading.worker.packages import FRAMEWORKS, STUB

START_SECONDS = 120  # on top of a worker's own time, for its start
END_SECONDS = 5  # for a worker that says nothing more
PATIENCE = 5  # a worker's clock stops while the processor is busy with others, but not for more than this


@functools.cache
def frameworks() -> dict[str, Path]:
    """{the place of a framework that is installed: what lies there where a question asks for NumPy}."""
    found = [spec.submodule_search_locations for name in sorted(FRAMEWORKS) if (spec := importlib.util.find_spec(name))]
    return {place: Path(STUB) for places in found for place in places or []}


class Sandbox:
    """Workers, each for a question or several of one submission, and what they may be shown. Use as a context manager.

    work: a folder of the grader's own, which no worker sees. network: leave the machine's network open to workers,
    where the kernel cannot close it. container: where bubblewrap cannot confine, rely on the container around the
    grader (`grading.container` says what that is worth). hidden: what no worker may read, besides `work`.
    """

    def __init__(self, work: Path, network: bool = False, container: bool = False, hidden: Sequence[Path] = ()):
        self.work, self.network, self.container = work, network, container
        self.hidden = (work, *hidden)
        self._worker: type[Confined] | type[Contained] = Confined
        self._filter, self._unfiltered = b"", ""  # of system calls, and why there is none
        self._grouped, self._ungrouped = False, ""  # whether each worker has a control group, and why not
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
                hides(self.hidden)
                self._try_out(Confined)
            except ConfinementError as error:
                if not self.container:
                    raise
                self._try_out(Contained)
                self._worker, self._refused = Contained, str(error)
            try:
                self._filter = syscalls.program()
            except NoFilter as error:
                self._unfiltered = str(error)
            self._tried = True

    def hide(self, paths: Sequence[Path]) -> None:
        """Raises ConfinementError where a worker could read one of these."""
        self.try_out()
        if self._worker is Confined:
            hides(paths)

    def _try_out(self, kind: type[Confined] | type[Contained]) -> None:
        with kind(["sh", "-c", "echo started; exec sleep 60"], {}, 1, self.network) as worker:
            worker.stdout.readline()  # bubblewrap and setpriv have done their work
            worker.prove(self.network)
            if isinstance(worker, Confined):
                try:
                    with cgroups.group(worker.pid, 1024, 1):
                        self._grouped = True
                        worker.kill()
                except OSError as error:
                    self._ungrouped = ("memory is counted ten times a second and not held by the kernel: "
                                       f"{error.strerror or error}; grade as root, or by systemd-run --user --scope")

    def warnings(self) -> list[str]:
        """One line for each protection that workers do without."""
        self.try_out()
        lines = [line for line in (self._unfiltered, self._ungrouped) if line]
        if self._refused:
            how = "the container alone confines submissions (--container), with its network"
            return [f"{how}: {self._refused}", *lines]
        return ["the network is open to submissions (--allow-network)"] * self.network + lines

    def run(self, code: Path, probes: Mapping[str, Probe], limits: Limits, data: Mapping[str, Path],
            torch: bool) -> dict[str, Reply]:
        """Run `probes` ({name: probe}) in one worker on the folder `code`, in order.

        A worker that ends early leaves nothing undone but the rest of that question: another does the other questions.
        data: folders the worker may read, by the name that probes know them by.

        Returns:
            A reply for every probe, whatever happened.

        Raises:
            ConfinementError: the worker cannot be confined, so that nothing was run.
            Trouble: the worker was ended from outside, or not even started, so that nothing is known.
        """
        replies = {name: Reply(error=f"Absent: {probe.needs} {ABSENT}")
                   for name, probe in probes.items() if probe.needs and not (code / probe.needs).is_file()}
        while left := {name: probe for name, probe in probes.items() if name not in replies}:
            replies |= self._run(code, left, limits, data, torch)
        return replies

    def _run(self, code: Path, probes: Mapping[str, Probe], limits: Limits, data: Mapping[str, Path],
             torch: bool) -> dict[str, Reply]:
        """Run them; where the worker ends early, up to the end of the question that it was at."""
        self.try_out()
        canary = self.work / f"canary-{secrets.token_hex(8)}"
        canary.touch()
        job, inputs = job_of(probes, limits)
        program = [sys.executable, "-I", "-B", f"{PLACE}/serve.py", str(canary), "open" if self.network else "closed",
                   *(["--torch"] if torch else [])]
        over = {} if torch or self._worker is Contained else frameworks()
        shown = over | {"/submission": code} | {f"/data/{key}": path for key, path in data.items()}
        replies: dict[str, Reply] = {}
        name, group = "", None
        with contextlib.ExitStack() as stack:
            worker: Confined | Contained = self._worker(program, shown, int(limits.disk_mb), self.network)
            stack.callback(worker.__exit__)
            job |= {"filter": self._filter.hex()}
            job["data"] = {key: worker.inside(f"/data/{key}") for key in data}
            questions = len({probe.question for probe in probes.values()})
            clock = threading.Timer(PATIENCE * limits.seconds * questions + START_SECONDS, worker.kill)
            self._enter(worker)
            try:
                clock.start()
                expect(worker, "confined", "a worker does not start: {}; numpy, matplotlib and torch must be "
                       f"importable by {sys.executable} -I, and by every user of this machine")
                worker.prove(self.network)  # nothing of the submission is run before this
                if self._grouped and isinstance(worker, Confined):
                    group = stack.enter_context(cgroups.group(worker.pid, limits.memory_mb + limits.disk_mb,
                                                              limits.processes))
                expect(worker, "ready", "a worker ended before it ran anything of a submission: {}")
                worker.stdin.write(json.dumps(job).encode() + b"\n" + inputs)
                worker.stdin.flush()
                for name in probes:
                    replies[name] = read_reply(worker.stdout, name, limits)
            except Left as reason:
                replies |= cut_short(probes, replies, name, f"stopped: {reason}")
            except (OSError, ValueError, EOFError):
                with self._lock:
                    if self._closed:
                        raise ConfinementError("the workers have been ended") from None
                if not name or group is None or not group.was_full():  # or nothing of it was run yet
                    raise Trouble(f"a worker {ending(worker)}") from None
                replies |= cut_short(probes, replies, name, ENDS["memory"].format(memory=limits.memory_mb))
            finally:
                self._leave(worker)
                if group is not None:
                    worker.kill()  # only then can its group be removed
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


def job_of(probes: Mapping[str, Probe], limits: Limits) -> tuple[dict[str, Any], bytes]:
    """What a worker is told to do, and the arrays that it does it with, as an .npz file."""
    inputs = io.BytesIO()
    np.savez(inputs, **{f"{name}/{key}": value for name, probe in probes.items()
                        for key, value in probe.arrays.items()})
    return {"limits": asdict(limits), "inputs": inputs.tell(), "probes": [
        {"name": name, "question": probe.question, "function": probe.function, "options": dict(probe.options),
         "seconds": probe.seconds or limits.probe_seconds} for name, probe in probes.items()]}, inputs.getvalue()


def cut_short(probes: Mapping[str, Probe], replies: Mapping[str, Reply], last: str, reason: str) -> dict[str, Reply]:
    """The replies of the probe in which a worker ended, for this reason, and of the same question's that are left."""
    rest = {name: Reply(error="not run: the worker ended early") for name, probe in probes.items()
            if name not in replies and probe.question == probes[last].question}
    return rest | {last: Reply(error=reason)}


def expect(worker: Confined | Contained, state: str, otherwise: str) -> None:
    """Wait until the worker says that it has come to this state.

    otherwise: what is wrong if it says something else, with {} where its last line belongs.

    Raises:
        EOFError: it was killed. ConfinementError: it ended by itself.
    """
    if json.loads(read_line(worker.stdout) or b"null") == {state: True}:
        return
    if was_killed(worker):
        raise EOFError
    raise ConfinementError(otherwise.replace("{}", worker.last_line() or "no answer", 1))


def ended(worker: Confined | Contained) -> int:
    """A worker's exit status, as a shell gives it; 0 where it has not ended by itself."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        status = worker.process.wait(END_SECONDS)
        return 128 - status if status < 0 else status
    return 0


def was_killed(worker: Confined | Contained) -> bool:
    return ended(worker) > 128


def ending(worker: Confined | Contained) -> str:
    """How a worker came to its end that had not said so, in words."""
    status = ended(worker)
    if status > 128:
        return f"was ended from outside ({signal_name(status - 128)})"
    return f"ended early ({one_line(worker.last_line(), 150) or f'exit status {status}'})"
