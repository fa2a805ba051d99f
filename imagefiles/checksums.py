"""MD5 checksums of large files, kept between runs: to hash CIFAR-10 takes longer than to read it.

A checksum is taken from the cache only where path, size, inode and times of the file are those that it had when it was
hashed, and where the file had not been written for some seconds before. Anything else is hashed again: a cache that is
missing, damaged or somebody else's only costs time. Nothing but the question whether a file is the published one rests
on it: each file is read, and checked, in every run.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import time
from pathlib import Path

QUIET_SECONDS = 10  # a file written more recently could be written again without a change of its times
SMALL = 8 * 2**20  # bytes below which a file is hashed each time, in some 10 ms
MAX_ENTRIES = 200


def md5_of(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def cache_file() -> Path:
    """The file in the user's cache folder. Raises RuntimeError where the user has no home."""
    named = os.environ.get("LOCALAPPDATA" if os.name == "nt" else "XDG_CACHE_HOME", "")
    folder = Path(named) if os.path.isabs(named) else Path.home() / ".cache"
    return folder / "cifar10_utils" / "checksums.json"


class ChecksumCache:
    """The checksums known so far; `save` keeps those that were added."""

    def __init__(self) -> None:
        self._entries: dict[str, list[object]] = {}
        self._changed = False
        self._started = time.time()
        try:
            with cache_file().open(encoding="utf-8") as file:
                if os.name == "nt" or os.fstat(file.fileno()).st_uid == os.geteuid():
                    self._entries = dict(json.load(file))
        except (OSError, RuntimeError, ValueError, TypeError, RecursionError):
            pass  # everything is hashed

    def md5(self, path: Path, content: bytes, status: os.stat_result) -> str:
        """The MD5 of `content`, which was read from `path` when the file had this status."""
        if len(content) < SMALL:
            return md5_of(content)
        key = os.path.realpath(path)
        identity = [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino, status.st_dev]
        match self._entries.get(key):
            case [*known, str(md5)] if known == identity and len(content) == status.st_size and len(md5) == 32:
                return md5
        md5 = md5_of(content)
        written = max(status.st_mtime, status.st_ctime)
        if len(content) == status.st_size and written < self._started - QUIET_SECONDS:
            self._entries.pop(key, None)
            self._entries[key] = [*identity, md5]
            self._changed = True
        return md5

    def save(self) -> None:
        """Writes the cache, whole or not at all; where that is not possible, the next run hashes again."""
        if not self._changed:
            return
        try:
            path = cache_file()
            path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=path.parent) as temporary:
                new = Path(temporary) / path.name
                new.write_text(json.dumps(dict(list(self._entries.items())[-MAX_ENTRIES:])), encoding="utf-8")
                os.replace(new, path)
        except (OSError, RuntimeError, ValueError):
            pass
