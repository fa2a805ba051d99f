"""One worker: runs the probes of one question on one submission, each in a forked child with nothing of its own.

The worker is trusted code and never imports the submission; its children do, as an unprivileged user where that is
possible, in a fresh copy of the submission's folder, under limits. When a child ends, all it has left running is
killed, and only then are its reply, its output and what became of it written to the results folder.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import random
import resource
import select
import shutil
import signal
import sys
import tempfile
import time
import traceback

import numpy as np

from grading.worker import confine, student

LOG_BYTES = 20_000
REPLY_BYTES = 256 * 2**20
POLL_SECONDS = 0.1
PATIENCE = 5


class Worker:
    """Folders and limits of one job, as `grading.sandbox` wrote them (see `Sandbox.run`)."""

    def __init__(self, job: dict):
        self.job, self.limits, features = job, job["limits"], job["features"]
        self.results = os.open(job["results"], os.O_RDONLY | os.O_DIRECTORY)
        with np.load(job["inputs"], allow_pickle=False) as file:
            self.inputs = {key: file[key] for key in file.files}
        self.alone = features["namespaces"]
        self.uid = confine.usable_uid() if features["uid"] or self.alone else None
        self.code, self.data = job["code"], dict(job["data"])
        if self.alone:
            shown = {f"/data/{key}": path for key, path in self.data.items()}
            confine.new_root(job["scratch"], self.limits["disk_mb"], {"/submission": self.code, **shown})
            self.data = {key: f"/data/{key}" for key in self.data}
            self.code, self.scratch = "/submission", "/home"
            os.makedirs(self.scratch, exist_ok=True)
        else:
            self.scratch = job["scratch"]
        self.home = os.path.join(self.scratch, "student")
        confine.prctl(confine.PR_SET_DUMPABLE, 0)  # the children may not look into this process

    def run(self) -> None:
        left = self.job["seconds"]
        for probe in self.job["probes"]:
            if left <= 0:
                self.write(probe["name"], {"end": "no time left"}, b"", b"", b"")
                continue
            status, *contents = self.one(probe, min(left, probe["seconds"]))
            self.write(probe["name"], status, *contents)
            left -= status["seconds"]

    def write(self, name: str, status: dict, reply: bytes, arrays: bytes, log: bytes) -> None:
        for ending, content in ((".reply.json", reply), (".npz", arrays), (".log", log),
                                (".status.json", json.dumps(status).encode())):
            fd = os.open(name + ending, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600, dir_fd=self.results)
            with os.fdopen(fd, "wb") as file:
                file.write(content)

    def one(self, probe: dict, seconds: float) -> tuple[dict, bytes, bytes, bytes]:
        """Run one probe in a child: how it ended, its reply (JSON), its arrays (.npz), the end of its output."""
        try:
            self.fresh_home()
        except OSError as error:
            end = f"no room for the submission's files: {error.strerror}"
            return {"end": end, "seconds": 0}, b"", b"", b""
        with contextlib.ExitStack() as files:
            reply, arrays, log = (files.enter_context(private_file()) for _ in range(3))
            started = time.monotonic()
            pid = os.fork()
            if pid == 0:
                self.child(probe, seconds, reply.fileno(), arrays.fileno(), log.fileno())
            end, code, waited = self.wait(pid, started, seconds)
            self.kill_all(pid)
            status = {"end": end, "code": code, "seconds": round(time.monotonic() - started - waited, 3)}
            return (status, read(reply, 2**20), read(arrays, REPLY_BYTES), read(log, LOG_BYTES, tail=True))

    def fresh_home(self) -> None:
        for folder in (self.home, *(("/tmp", "/dev/shm") if self.alone else ())):
            empty(folder)
        shutil.copytree(self.code, os.path.join(self.home, "code"))
        os.mkdir(os.path.join(self.home, "tmp"))
        os.chmod(self.home, 0o700)
        if self.uid is not None:
            for parent, folders, names in os.walk(self.home):
                for name in (".", *folders, *names):
                    os.lchown(os.path.join(parent, name), self.uid, self.uid)

    def wait(self, pid: int, started: float, seconds: float) -> tuple[str, int, float]:
        """Wait for `pid`, watching the clock, the memory of all its processes and (on a shared disk) its files.

        Time in which it was ready to run and the processor was busy with others does not count against it, so that a
        loaded machine costs nobody points; but no more than `PATIENCE` seconds in one.

        Returns:
            How it ended, its exit code, and the seconds that do not count.
        """
        waited = 0.0
        with contextlib.ExitStack() as stack:
            watch = select.poll()
            if hasattr(os, "pidfd_open"):
                fd = os.pidfd_open(pid)
                stack.callback(os.close, fd)
                watch.register(fd, select.POLLIN)
            while True:
                watch.poll(1000 * (POLL_SECONDS if hasattr(os, "pidfd_open") else POLL_SECONDS / 5))
                done, status = os.waitpid(pid, os.WNOHANG)
                if done:
                    code = os.waitstatus_to_exitcode(status)
                    return ("cpu time" if code == -signal.SIGXCPU else "ended"), code, waited
                elapsed = time.monotonic() - started
                waited = min(confine.waiting_seconds(pid), elapsed * (1 - 1 / PATIENCE))
                if elapsed - waited > seconds:
                    return "wall time", 0, waited
                if confine.used_memory(confine.descendants()) > self.limits["memory_mb"] * 2**20:
                    return "memory", 0, waited
                if not self.alone and confine.used_disk(self.home) > self.limits["disk_mb"] * 2**20:
                    return "disk", 0, waited

    def kill_all(self, pid: int) -> None:
        """End whatever the child has left, in its process group or out of it."""
        give_up = time.monotonic() + 5
        while time.monotonic() < give_up:
            if self.alone:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(-1, signal.SIGKILL)  # every process of this namespace but its first, which is this one
            else:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(pid, signal.SIGKILL)
                for other in confine.descendants():
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(other, signal.SIGKILL)
            try:
                if os.waitpid(-1, os.WNOHANG) == (0, 0):
                    time.sleep(0.005)
            except ChildProcessError:
                return

    def child(self, probe: dict, seconds: float, reply: int, arrays: int, log: int) -> None:
        """The forked child: confined, then the submission's code. Never returns."""
        try:
            os.setsid()
            confine.die_with_parent()
            os.dup2(os.open("/dev/null", os.O_RDONLY), 0)
            os.dup2(log, 1)
            os.dup2(log, 2)
            keep = {0, 1, 2, reply, arrays}
            for fd in range(3, 256):
                if fd not in keep:
                    with contextlib.suppress(OSError):
                        os.close(fd)
            os.environ.clear()
            os.environ.update(
                HOME=self.home, TMPDIR=os.path.join(self.home, "tmp"), USER="student", PATH="/usr/bin:/bin",
                LANG="C.UTF-8", MPLBACKEND="Agg", MPLCONFIGDIR=os.path.join(self.home, "tmp"),
                PYTHONDONTWRITEBYTECODE="1", OMP_NUM_THREADS="1", MKL_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1",
                CUDA_VISIBLE_DEVICES="")
            tempfile.tempdir = None
            code = os.path.join(self.home, "code")
            already = confine.own_threads(os.getuid()) if self.uid is None and not self.alone else 0
            confine.limit(math.ceil(seconds) + 1, self.limits["memory_mb"], self.limits["file_mb"],
                          already + self.limits["processes"])
            if self.uid is not None or self.alone:
                confine.drop_privileges(self.uid)
            os.chdir(code)
            sys.path.append(code)  # last: no file of a submission can stand in for a library
            for name in (signal.SIGINT, signal.SIGTERM):
                signal.signal(name, signal.default_int_handler if name == signal.SIGINT else signal.SIG_DFL)
            random.seed(0)
            np.random.seed(0)
            inputs = {key.partition("/")[2]: value for key, value in self.inputs.items()
                      if key.partition("/")[0] == probe["name"]}
            student.answer(probe, inputs, self.data, reply, arrays)
        except BaseException:
            traceback.print_exc()
        finally:
            with contextlib.suppress(BaseException):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(0)


def private_file():
    """A file without a name, in memory where the kernel can."""
    if hasattr(os, "memfd_create"):
        return os.fdopen(os.memfd_create("reply"), "w+b", buffering=0)
    return tempfile.TemporaryFile(buffering=0)


def read(file, most: int, tail: bool = False) -> bytes:
    """Up to `most` bytes of `file`, its first or its last."""
    size = os.fstat(file.fileno()).st_size
    return os.pread(file.fileno(), most, max(0, size - most) if tail else 0)


def empty(folder: str) -> None:
    """Make `folder` exist and hold nothing."""
    os.makedirs(folder, exist_ok=True)
    for entry in os.scandir(folder):
        if entry.is_dir(follow_symlinks=False):
            for parent, folders, _ in os.walk(entry.path):  # a folder without permissions can still be emptied
                for path in (os.path.join(parent, name) for name in (".", *folders)):
                    if not os.path.islink(path):
                        os.chmod(path, 0o700)
            shutil.rmtree(entry.path, ignore_errors=True)
        else:
            with contextlib.suppress(OSError):
                os.unlink(entry.path)


def serve(job: dict) -> int:
    """Run the job. The worker's own memory stays small; its children get the limits."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    Worker(job).run()
    return 0
