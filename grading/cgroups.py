"""A control group for each worker, where this user may make one: the kernel holds the memory of all its processes.

Version 2 (https://docs.kernel.org/admin-guide/cgroup-v2.html), and version 1 where the memory controller is there. A
group is made beside the grader's own, below the nearest folder that passes the memory controller on and can be written.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import time
from collections.abc import Iterator
from pathlib import Path

MOUNT = Path("/sys/fs/cgroup")
SLACK_MB = 512  # for the worker itself, and /tmp and /dev/shm, which are limited as well
PROCESSES = 32  # of the worker, besides those of the submission
NEARLY = 2**20  # bytes: a process asks for several pages at once
END_SECONDS = 2.0  # until the kernel has taken the last process out of a group


def parent() -> Path:
    """The folder to make groups in. Raises OSError where there is none."""
    lines = [line.split(":", 2) for line in Path("/proc/self/cgroup").read_text().splitlines()]
    for _, controllers, path in lines:  # version 1
        if "memory" in controllers.split(","):
            folder = MOUNT / "memory" / path.lstrip("/")
            return folder if folder.is_dir() else MOUNT / "memory"
    for _, controllers, path in lines:
        folder = MOUNT / path.lstrip("/")
        for place in (folder, *folder.parents) if not controllers else ():
            if (place.is_relative_to(MOUNT) and os.access(place / "cgroup.procs", os.W_OK)
                    and "memory" in (place / "cgroup.subtree_control").read_text().split()):
                return place
    raise OSError(errno.EACCES, "no control group can be made here")


class Group:
    def __init__(self, folder: Path):
        self.folder = folder

    def was_full(self) -> bool:
        """Whether the kernel has ended a process of it because the group had no more room.

        It also counts those here that it has ended because the machine had none: then the limit was never reached.
        """
        events = self.numbers("memory.events") or self.numbers("memory.oom_control")
        if "oom" in events:
            reached = events["oom"] > 0
        else:  # version 1 counts no such events in newer kernels
            most, limit = (self.numbers(f"memory.{name}_in_bytes").get("", 0) for name in ("max_usage", "limit"))
            reached = most > limit - NEARLY
        return events.get("oom_kill", 0) > 0 and reached

    def numbers(self, name: str) -> dict[str, int]:
        """What stands in one of its files, by name, '' for a number alone; {} where the file is missing."""
        with contextlib.suppress(OSError, ValueError):
            lines = [line.rpartition(" ") for line in (self.folder / name).read_text().splitlines()]
            return {key: int(value) for key, _, value in lines}
        return {}


@contextlib.contextmanager
def group(pid: int, memory_mb: float, processes: int) -> Iterator[Group]:
    """A group with the process `pid` in it, and all that this will start. Raises OSError where there cannot be one."""
    folder = parent() / f"grade-{secrets.token_hex(8)}"
    folder.mkdir()
    try:
        most = str(int((memory_mb + SLACK_MB) * 2**20))
        second = (folder / "memory.max").exists()
        (folder / ("memory.max" if second else "memory.limit_in_bytes")).write_text(most)
        for name, value in (("memory.swap.max", "0"), ("memory.memsw.limit_in_bytes", most),
                            ("pids.max", str(processes + PROCESSES))):
            if (folder / name).exists():  # not every kernel counts these
                (folder / name).write_text(value)
        (folder / "cgroup.procs").write_text(str(pid))
        yield Group(folder)
    finally:
        give_up = time.monotonic() + END_SECONDS
        while folder.exists() and time.monotonic() < give_up:
            with contextlib.suppress(OSError):
                folder.rmdir()
                break
            time.sleep(0.01)
