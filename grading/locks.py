"""Locks on files, by which graders that share an output folder share its work, and folders that go with their process.

The kernel releases a lock when its process ends, however it ends; over NFS, too.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

UNSUPPORTED = {errno.ENOSYS, errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP}
PREFIX, LOCK = "grade-work-", ".in-use"


def lock(path: Path, wait: bool = False, shared: bool = False) -> IO[bytes] | None:
    """Hold the lock on the file `path` until what is returned is closed; None where another process holds it.

    wait: until it is free. shared: beside others who share it. Where a file system has no locks, each is granted.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    file = open(path, "ab")  # noqa: SIM115 (the caller closes it)
    try:
        if change(file, wait, shared):
            return file
    except BaseException:
        file.close()
        raise
    file.close()
    return None


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Wait for the lock on `path`, and hold it."""
    file = lock(path, wait=True)
    assert file is not None
    with file:
        yield


def change(file: IO[bytes], wait: bool = False, shared: bool = False) -> bool:
    """Hold the lock on an open file, in another way than before; whether it was granted. Refused, it is lost."""
    try:
        _flock(file, wait, shared)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in UNSUPPORTED:
            raise
    return True


def _flock(file: IO[bytes], wait: bool, shared: bool) -> None:
    with contextlib.suppress(ImportError):  # not a POSIX system
        import fcntl

        fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB))


def work_folder() -> tuple[Path, IO[bytes]]:
    """A temporary folder and the lock that says it is in use. Removes those whose process was killed."""
    for old in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):
            status = old.lstat()
            if stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid():
                with open(old / LOCK, "r+b") as file:
                    _flock(file, wait=False, shared=False)
                    shutil.rmtree(old, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix=PREFIX))
    held = lock(folder / f"{LOCK}.new")
    assert held is not None
    os.rename(folder / f"{LOCK}.new", folder / LOCK)  # held before anybody can find it
    return folder, held
