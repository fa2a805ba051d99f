"""What a worker knows of its place where there are no namespaces: it is a user of its own in somebody's container.

`serve.Namespace` says the same of a place that bubblewrap made.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
from pathlib import Path

PR_SET_CHILD_SUBREAPER = 36


class Container:
    """A folder in the container around the grader.

    root: the folder; what bubblewrap would show as /submission is `root`/submission. hidden: files of the grader that
    this worker must not be able to read.
    """

    shared = ("/tmp", "/var/tmp", "/dev/shm")  # with others: what is this user's there

    def __init__(self, root: str, hidden: list[str]):
        self.root, self.hidden = root, hidden

    def unconfined(self, canary: str, network: bool) -> str:
        """Why this process is not confined as far as a container allows, seen from inside; '' where it is.

        network: not asked about. It is as open as the container's, and the grader says so.
        """
        fields = status("self")
        if 0 in (*os.getresuid(), *os.getresgid(), *os.getgroups()):
            return "this runs as root"
        capabilities = any(int(fields[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapAmb"))
        if capabilities or fields["NoNewPrivs"] != "1":
            return "this has, or may gain, capabilities"
        if self.others():  # and `kill_others` would end them
            return "other processes run as this user"
        for path in (canary, *self.hidden):
            if os.access(path, os.R_OK):
                return f"{path} can be read: allow nobody but root into the grader's folders (chmod 700)"
        if any(os.access(path, os.W_OK) for path in ("/", "/usr", f"{self.root}/submission", sys.prefix)):
            return "files outside can be written"
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, ctypes.c_ulong(1))  # what loses its parent becomes our child
        return ""

    def others(self) -> list[int]:
        """Every other process of this user that has not ended."""
        return [pid for pid in processes(os.getuid()) if pid != os.getpid()]

    def kill_others(self) -> None:
        """End every other process of this user; the kernel does it in one step, so that none can fork in between."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(-1, signal.SIGKILL)

    def leave(self) -> None:
        self.kill_others()
        os._exit(1)


def status(pid: int | str) -> dict[str, str]:
    """/proc/PID/status as a table."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}


def processes(user: int) -> list[int]:
    """The processes of `user` that have not ended."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, KeyError):
            fields = status(folder.name)
            if int(fields["Uid"].split()[0]) == user and fields["State"][0] not in "ZX":
                found.append(int(folder.name))
    return found
