"""Starts a worker where no namespaces can be had, in a container that exists for one submission and is thrown away.

Gradescope runs every submission in a fresh container of its own, which usually allows no namespaces in it: bubblewrap
cannot start. This is what remains, used only when asked for (`grade.py --container`):

    held         the worker and all it starts run as a user of their own, without capabilities and unable to gain any;
                 under the limits of processor time, memory, processes and size of a file; in a fresh copy of what they
                 are shown. They cannot read the grader's files nor write its results, nor end the grader, and all of
                 them are ended after each probe.
    not held     the network, which is the container's. What everybody in the container may read, such as libraries and
                 the command lines of other processes. The disk as a whole, and /tmp, which workers of the same
                 submission share.

So it confines a submission from its own grades, and not from a machine that anybody else uses.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

from grading.confinement import (
    ENVIRONMENT,
    HOME,
    PLACE,
    WORKER,
    ConfinementError,
    draw_user,
    privileges,
)
from grading.worker.container import processes, status

PACKAGE = Path(__file__).parent
END_SECONDS = 10  # for ending what a worker has started
USERS = range(50_000, 60_000)  # those of `confinement` are others: what belongs to these is ended


class Contained:
    """As `Confined`, of which it has the interface, without namespaces. Needs root, to be another user than the worker.

    What is shown as /submission lies in /submission below a folder of its own (`inside`).
    """

    def __init__(self, arguments: Sequence[str], shown: Mapping[str, Path], disk_mb: int, network: bool = False):
        if os.getuid() != 0 or shutil.which("setpriv") is None:
            raise ConfinementError("--container runs submissions as another user, which takes root and setpriv "
                                   "(apt install util-linux)")
        self.user = draw_user(USERS)
        self.root = Path(tempfile.mkdtemp(prefix="worker-"))
        for path, outside in {PLACE: WORKER, **shown}.items():
            copy(outside, Path(self.inside(path)), link=path.startswith("/data/"))
        for folder in (self.root, *(path for path in self.root.rglob("*") if path.is_dir())):
            folder.chmod(0o755)
        home = Path(self.inside(HOME))
        home.mkdir(mode=0o700)
        os.chown(home, self.user, self.user)
        self.stderr: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 (closed in __exit__)
        line = ["setpriv", f"--reuid={self.user}", f"--regid={self.user}", "--clear-groups", "--inh-caps=-all",
                "--ambient-caps=-all", "--bounding-set=-all", "--no-new-privs", "--pdeathsig=KILL", "--",
                *(self.inside(part) if part.startswith(PLACE) else part for part in arguments),
                "--container", str(self.root), str(PACKAGE)]
        self.process = subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.stderr,
                                        start_new_session=True, cwd=home, env={
            **ENVIRONMENT, "HOME": str(home), "TMPDIR": str(home), "MPLCONFIGDIR": str(home / "matplotlib")})
        assert self.process.stdin is not None and self.process.stdout is not None
        self.stdin: IO[bytes] = self.process.stdin
        self.stdout: IO[bytes] = self.process.stdout

    def __enter__(self) -> Contained:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        for stream in (self.stdin, self.stdout, self.stderr):
            with contextlib.suppress(OSError):
                stream.close()
        shutil.rmtree(self.root, ignore_errors=True)

    def inside(self, path: str) -> str:
        """Where the worker finds what is shown to it as `path`."""
        return f"{self.root}{path}"

    def kill(self) -> None:
        """End it and all it started: every process of its user, again until there is none."""
        self.process.kill()
        give_up = time.monotonic() + END_SECONDS
        while (found := processes(self.user)) and time.monotonic() < give_up:
            for pid in found:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        self.process.wait()

    def last_line(self) -> str:
        self.stderr.seek(0)
        return next(iter(self.stderr.read(10_000).decode(errors="replace").strip().splitlines()[-1:]), "")

    def prove(self, network: bool = False) -> None:
        """Raises ConfinementError unless the kernel says of this process that it is another user without rights."""
        try:
            fields = status(self.process.pid)
            wrong = privileges(fields)
            if {*fields["Uid"].split(), *fields["Gid"].split(), *fields["Groups"].split()} != {str(self.user)}:
                wrong = "it is not the user that it should be"
        except (OSError, KeyError, ValueError) as error:
            wrong = f"nothing can be learned of it: {error}"
        if wrong:
            self.kill()
            raise ConfinementError(f"a worker was not confined ({wrong}) and was ended before it had anything to run; "
                                   "grade on another machine")


def copy(source: Path, target: Path, link: bool) -> None:
    """Copy a folder for everybody to read, and for nobody but root to write. link: without doubling its files."""
    def one(path: str, new: str) -> None:
        try:
            if not link:
                raise OSError
            os.link(path, new)
        except OSError:  # on another disk
            shutil.copyfile(path, new)
            os.chmod(new, 0o644)

    shutil.copytree(source, target, copy_function=one, ignore=shutil.ignore_patterns("__pycache__"))
