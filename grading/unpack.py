"""What lies in a ZIP or tar archive or in a folder, one entry at a time. Nothing here writes a file.

An archive is recognised by its first bytes, not by its name. Sizes that an archive states are not believed: who reads
an entry counts.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import os
import re
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, Any

MOST_ENTRIES = 100_000
MOST_UNPACKED = 512 * 2**20  # of a tar archive, which can only be read from its start to its end
ENDINGS = (".zip", ".tar", ".tar.gz", ".tgz", ".rar", ".7z", ".tar.bz2", ".tar.xz")  # of an archive's name
SINGLE = {".ipynb": "is a notebook: export it as .py files and pack them as a ZIP",  # files given by themselves
          ".py": "is a single Python file: pack all files of the hand-in as a ZIP"}
AGAIN = "pack it again and upload it again"
AS_ZIP = "unpack it and pack it as a ZIP file"
OTHERS = ((b"Rar!", "a RAR archive"), (b"7z\xbc\xaf", "a 7z archive"), (b"BZh", "packed by bzip2"),
          (b"\xfd7zXZ", "packed by xz"))
DOS_FOLDER = 0x10  # of a ZIP member's attributes
UTF8_NAME, ENCRYPTED = 0x800, 1  # of its flags


class Unreadable(Exception):
    """A submission that cannot be taken in: one line that says why and the way out."""


@dataclass(frozen=True)
class Entry:
    """One thing in an archive or a folder.

    name: its path, with slashes. kind: 'file', 'folder', 'link' or 'special file'. size: stated, in bytes. packed:
    bytes that it takes in the archive, 0 where that is not known. open: a stream of its content, to be read before the
    next entry is asked for.
    """

    name: str
    kind: str
    size: int = 0
    packed: int = 0
    open: Callable[[], IO[bytes]] = io.BytesIO


def is_archive(name: str) -> bool:
    return name.lower().endswith(ENDINGS)


def without_ending(name: str) -> str:
    """'doe_assignment1' of 'doe_assignment1.tar.gz', and of a notebook or Python file of this name."""
    endings = sorted((*ENDINGS, *SINGLE), key=len, reverse=True)
    ending = next((ending for ending in endings if name.lower().endswith(ending)), "")
    return name[:len(name) - len(ending)]


def parts_of(name: str) -> tuple[str, ...] | None:
    """The parts of an entry's path below its folder; None for one that leaves it or cannot be a file's name here."""
    path = PurePosixPath(name)
    parts = tuple(part for part in path.parts if part not in ("", "."))
    if path.is_absolute() or len(parts) > 20 or (parts and re.match("[A-Za-z]:", parts[0])):
        return None
    if any(part == ".." or "\0" in part or len(part.encode("utf-8", "surrogateescape")) > 200 for part in parts):
        return None
    return parts


@contextlib.contextmanager
def readable() -> Iterator[None]:
    """What the libraries raise on damaged archives becomes Unreadable."""
    try:
        yield
    except zipfile.BadZipFile as error:
        raise Unreadable(f"is not a ZIP file, or a damaged one ({str(error)[:80]}): {AGAIN}") from None
    except (gzip.BadGzipFile, tarfile.TarError, NotImplementedError, zlib.error, EOFError, ValueError, OverflowError,
            struct.error, RuntimeError, IndexError) as error:
        raise Unreadable(f"cannot be unpacked ({type(error).__name__}: {str(error)[:80]}): {AGAIN}") from None


def entries(file: IO[bytes]) -> Iterator[Entry]:
    """The entries of an archive, a file that can seek. Raises Unreadable, also for kinds that are not read here."""
    file.seek(0)
    head = file.read(512)
    file.seek(0)
    if not head:
        raise Unreadable(f"is empty: {AGAIN}")
    for magic, what in OTHERS:
        if head.startswith(magic):
            raise Unreadable(f"is {what}, which is not read here: {AS_ZIP}")
    if head.startswith(b"%PDF"):
        raise Unreadable("is a PDF file: hand in a ZIP file of the report and all Python code")
    with readable():
        if head.startswith(b"\x1f\x8b"):
            with gzip.open(file) as unpacked:
                yield from _limited(_tar(unpacked))
        else:
            yield from _limited(_tar(file) if head[257:262] == b"ustar" else _zip(file))


def _limited(found: Iterator[Entry]) -> Iterator[Entry]:
    for number, entry in enumerate(found):
        if number >= MOST_ENTRIES:
            raise Unreadable(f"holds more than {MOST_ENTRIES} files: {AS_ZIP} without environments and data sets")
        yield entry


def _zip(file: IO[bytes]) -> Iterator[Entry]:
    with zipfile.ZipFile(file) as archive:
        for member in archive.infolist():
            name, mode = _zip_name(member), member.external_attr >> 16
            folder = (name.endswith("/") or stat.S_ISDIR(mode)
                      or bool(member.external_attr & DOS_FOLDER and not member.file_size))
            kind = "folder" if folder else "link" if stat.S_ISLNK(mode) else "file"
            yield Entry(name, kind, member.file_size, max(member.compress_size, 1),
                        partial(_open_in_zip, archive, member))


def _zip_name(member: zipfile.ZipInfo) -> str:
    """Its path. Names that are not marked as UTF-8 often are, and some programs write backslashes."""
    name = member.filename
    if not member.flag_bits & UTF8_NAME:
        with contextlib.suppress(UnicodeError):
            name = name.encode("cp437").decode("utf-8")
    return name.replace("\\", "/")


def _open_in_zip(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> IO[bytes]:
    if member.flag_bits & ENCRYPTED:
        raise Unreadable("is protected by a password: pack it again without one")
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise Unreadable(f"is packed by an unusual method: {AS_ZIP}")  # whose output does not come in small pieces
    return archive.open(member)


class _Counted:
    """A stream that ends the reading of what unpacks to more than MOST_UNPACKED bytes."""

    def __init__(self, stream: Any):
        self.stream, self.left = stream, MOST_UNPACKED

    def read(self, size: int) -> bytes:
        content = self.stream.read(size)
        self.left -= len(content)
        if self.left < 0:
            raise Unreadable(f"unpacks to more than {MOST_UNPACKED // 2**20} MB: {AS_ZIP} without environments and "
                             "data sets")
        return content


def _tar(stream: Any) -> Iterator[Entry]:
    """tarfile's own extraction, and so its filters, is not used: an entry is a name and bytes here."""
    counted: Any = _Counted(stream)
    with tarfile.open(fileobj=counted, mode="r|") as archive:
        for member in archive:
            plain = member.isreg() and not member.issparse()
            linked = member.issym() or member.islnk()
            kind = "file" if plain else "folder" if member.isdir() else "link" if linked else "special file"
            yield Entry(member.name, kind, member.size, 0,
                        partial(archive.extractfile, member))  # type: ignore[arg-type]


def folder_entries(path: Path, inside: Callable[[tuple[str, ...]], bool]) -> Iterator[Entry]:
    """The entries of a folder, sorted. inside: whether to look into the folder of these parts."""
    def stop(error: OSError) -> None:  # os.walk would leave the folder out
        raise error

    for parent, folders, names in os.walk(path, onerror=stop):
        here = Path(parent)
        folders.sort()
        for name in folders:
            link = (here / name).is_symlink()
            yield Entry((here / name).relative_to(path).as_posix(), "link" if link else "folder")
        folders[:] = [name for name in folders if not (here / name).is_symlink()
                      and inside((here / name).relative_to(path).parts)]
        for name in sorted(names):
            file = here / name
            status = file.lstat()
            mode = status.st_mode
            kind = "file" if stat.S_ISREG(mode) else "link" if stat.S_ISLNK(mode) else "special file"
            yield Entry(file.relative_to(path).as_posix(), kind, status.st_size, 0,
                        partial(io.FileIO, file))
