"""Starts a worker inside bubblewrap, and proves from outside that it is confined before it is told anything.

Confinement is bubblewrap's (https://github.com/containers/bubblewrap): the worker has process, mount, IPC and, where
the kernel allows it, network namespaces of its own; a root folder that holds the interpreter, the libraries and what
is shown to it, all read-only; memory-backed scratch; no capability; and a user who is not root. It fails closed: where
any of this is not available, or cannot be shown to hold, nothing is graded.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

WORKER = Path(__file__).parent / "worker"
PLACE = "/grader/grading/worker"  # where the worker's own files lie inside
HOME = "/scratch"
SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64")
SETTINGS = ("/etc/ld.so.cache", "/etc/localtime", "/etc/alternatives")
DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")
ENVIRONMENT = {"HOME": HOME, "TMPDIR": "/tmp", "USER": "student", "PATH": "/usr/bin:/bin", "LANG": "C.UTF-8",
               "MPLBACKEND": "Agg", "MPLCONFIGDIR": f"{HOME}/matplotlib", "PYTHONDONTWRITEBYTECODE": "1",
               "PYTHONHASHSEED": "0", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1",
               "CUDA_VISIBLE_DEVICES": ""}
INFO = "{info}"  # stands for the number of a pipe
NAMESPACES = ("pid", "mnt", "ipc", "uts")
USERS = range(61_001, 65_001)  # user ids for the workers of a grader that is root


class ConfinementError(Exception):
    """Workers cannot be confined here: one line that says why and the way out."""


class NotStarted(ConfinementError):
    """A worker did not start. Others may: it can be for lack of memory or processes."""


def tools() -> None:
    """Raises ConfinementError where bubblewrap, or for root setpriv, is not installed."""
    if sys.platform != "linux" or shutil.which("bwrap") is None:
        raise ConfinementError("submissions run inside bubblewrap, which is not installed here; grade on Linux after "
                               "apt install bubblewrap libseccomp2 (dnf, pacman: bubblewrap libseccomp)")
    if os.getuid() == 0 and shutil.which("setpriv") is None:
        raise ConfinementError("setpriv is missing, with which root gives up its rights; install util-linux, or grade "
                               "as another user")


def environment() -> list[str]:
    """The folders of the system and of Python's environment, which every worker may read."""
    found = [path for path in SYSTEM if os.path.isdir(path) and not os.path.islink(path)]
    for path in (sys.base_prefix, sys.prefix):
        if not any(path == other or path.startswith(other + "/") for other in found):
            found.append(path)
    return found


def hides(paths: Iterable[Path]) -> None:
    """Raises ConfinementError where a worker could read one of these."""
    for path in paths:
        for folder in environment():
            if path.resolve().is_relative_to(Path(folder).resolve()):
                raise ConfinementError(f"{path} lies in {folder}, which submissions can read: move it, or grade with "
                                       "an environment elsewhere (python -m venv)")


@functools.cache
def disables_user_namespaces(bwrap: str | None) -> bool:
    """Whether this bubblewrap, on this machine, can refuse further user namespaces: from version 0.8 on, mostly."""
    tried = [bwrap or "bwrap", "--unshare-user", "--disable-userns", "--ro-bind", "/", "/", "true"]
    return subprocess.run(tried, stdin=subprocess.DEVNULL, capture_output=True).returncode == 0


def draw_user(users: Sequence[int] = USERS) -> int:
    """A user id that no process has: those of other graders on this machine are taken."""
    taken: set[int] = set()
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, KeyError, ValueError):
            taken |= {int(user) for user in status(folder.name)["Uid"].split()}
    return random.SystemRandom().choice([user for user in users if user not in taken])


def command(shown: Mapping[str, Path], disk_mb: int, network: bool, user: int | None) -> list[str]:
    """bubblewrap's command line, up to the program that it is to run.

    shown: {path inside: path outside}, read-only. network: leave the machine's network open to it. user: the user id
    to run as where the grader is root; None makes a user namespace.
    """
    line = ["bwrap", "--die-with-parent", "--new-session", "--as-pid-1", "--unshare-pid", "--unshare-ipc",
            "--unshare-uts", "--unshare-cgroup-try", *([] if network else ["--unshare-net"])]
    if user is None:
        line += ["--unshare-user", *(["--disable-userns"] if disables_user_namespaces(shutil.which("bwrap")) else [])]
    else:  # bubblewrap leaves root its capabilities unless it is told otherwise; setpriv needs these three, once
        line += ["--cap-drop", "ALL", "--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID", "--cap-add", "CAP_SETPCAP"]
    for path in SYSTEM:
        if os.path.islink(path):
            line += ["--symlink", os.readlink(path), path]
    seen = {path: Path(path) for path in environment()}  # {path inside: path outside}
    seen |= {PLACE: WORKER, **shown}
    for path, size in ((HOME, disk_mb), ("/tmp", 64), ("/dev/shm", 64)):  # first: what is shown may lie below them
        line += ["--perms", "1777", "--size", str(size * 2**20), "--tmpfs", path]
    for parent in sorted({str(parent) for inside in (*seen, *SETTINGS, *DEVICES)
                          for parent in Path(inside).parents} - {"/"}):
        line += ["--perms", "0755", "--dir", parent]  # bubblewrap would make them for root alone
    for inside, outside in seen.items():
        line += ["--ro-bind", str(outside), inside]
    for path in SETTINGS:
        line += ["--ro-bind-try", path, path]
    for path in DEVICES:
        line += ["--dev-bind", path, path]
    line += ["--proc", "/proc"]
    line += ["--remount-ro", "/", "--chdir", HOME, "--clearenv"]
    for name, value in ENVIRONMENT.items():
        line += ["--setenv", name, value]
    line += ["--info-fd", INFO, "--"]
    if user is not None:
        line += ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups", "--inh-caps=-all",
                 "--ambient-caps=-all", "--no-new-privs", "--"]
    return line


class Confined:
    """A confined process: `stdin` and `stdout` are pipes, `stderr` a file of ours. Use as a context manager."""

    def __init__(self, arguments: Sequence[str], shown: Mapping[str, Path], disk_mb: int, network: bool = False):
        tools()
        user = draw_user() if os.getuid() == 0 else None
        self._pidfd = -1
        with contextlib.ExitStack() as opened:  # closed where it does not start
            self.stderr: IO[bytes] = opened.enter_context(tempfile.TemporaryFile())
            read, write = os.pipe()
            opened.callback(os.close, read)
            try:
                line = [str(write) if part == INFO else part for part in command(shown, disk_mb, network, user)]
                self.process = subprocess.Popen([*line, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                                stderr=self.stderr, pass_fds=(write,), start_new_session=True, cwd="/")
            finally:
                os.close(write)
            opened.pop_all()
        assert self.process.stdin is not None and self.process.stdout is not None
        self.stdin: IO[bytes] = self.process.stdin
        self.stdout: IO[bytes] = self.process.stdout
        with os.fdopen(read, "rb") as info:
            answer = info.read()
        with contextlib.suppress(ValueError, KeyError, OSError):
            self.pid: int = json.loads(answer)["child-pid"]
            self._pidfd = os.pidfd_open(self.pid)
        if self._pidfd < 0:
            last = self.last_line()
            self.__exit__()
            raise NotStarted(f"bubblewrap does not start here ({last or 'it says nothing'}); allow "
                                   "user namespaces (sysctl kernel.unprivileged_userns_clone=1), or grade on a machine "
                                   "that has them; if it names the network, --allow-network leaves that open")

    def __enter__(self) -> Confined:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        for stream in (self.stdin, self.stdout, self.stderr):
            with contextlib.suppress(OSError):
                stream.close()
        if self._pidfd >= 0:
            fd, self._pidfd = self._pidfd, -1
            os.close(fd)

    def kill(self) -> None:
        """End it and all it started: with the first process of its namespace, the kernel ends every other."""
        if self._pidfd >= 0:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
        else:
            self.process.kill()  # it had started nothing
        self.process.wait()

    @staticmethod
    def inside(path: str) -> str:
        """Where the worker finds what is shown to it as `path`."""
        return path

    def last_line(self) -> str:
        self.stderr.seek(0)
        return next(iter(self.stderr.read(10_000).decode(errors="replace").strip().splitlines()[-1:]), "")

    def prove(self, network: bool = False) -> None:
        """Raises ConfinementError unless the kernel says of this process that it is confined."""
        if wrong := unconfined(self.pid, network):
            self.kill()
            raise ConfinementError(f"a worker was not confined ({wrong}) and was ended before it had anything to run; "
                                   "grade on another machine")


def status(pid: int | str) -> dict[str, str]:
    """/proc/PID/status as a table."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}


def privileges(fields: Mapping[str, Any]) -> str:
    """What is wrong with a process of this status, or ''."""
    for name in ("CapInh", "CapPrm", "CapEff", "CapAmb"):
        if int(fields[name], 16):
            return f"it has capabilities, {name} {fields[name]}"
    if fields["NoNewPrivs"] != "1":
        return "it may gain privileges"
    return ""


def unconfined(pid: int, network: bool = False) -> str:
    """Why process `pid` is not confined, seen from here; '' where it is."""
    try:
        for name in (*NAMESPACES, *(() if network else ("net",)), *(("user",) if os.getuid() else ())):
            if os.readlink(f"/proc/{pid}/ns/{name}") == os.readlink(f"/proc/self/ns/{name}"):
                return f"it shares our {name} namespace"
        fields = status(pid)
        if fields["NSpid"].split()[-1] != "1":
            return "it is not the first process of its namespace"
        if os.getuid() == 0 and "0" in (*fields["Uid"].split(), *fields["Gid"].split(), *fields["Groups"].split()):
            return "it runs as root"
        root, ours = os.stat(f"/proc/{pid}/root"), os.stat("/")
        if (root.st_dev, root.st_ino) == (ours.st_dev, ours.st_ino):
            return "it shares our root folder"
        return privileges(fields)
    except (OSError, KeyError, ValueError, IndexError) as error:
        return f"nothing can be learned of it: {error}"
