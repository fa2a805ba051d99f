"""Takes a submission, a ZIP file or a folder, into a folder of the grader's own. Nothing of it is trusted.

Sizes are counted while extracting, not believed; no member leaves the folder; links and special files are left out.
"""

from __future__ import annotations

import hashlib
import os
import stat
import struct
import zipfile
import zlib
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

MARKER = "modules.py"
EXPECTED = (MARKER, "mlp_numpy.py", "train_mlp_numpy.py", "mlp_pytorch.py", "train_mlp_pytorch.py",
            "custom_layernorm.py", "convnet_pytorch.py", "train_convnet_pytorch.py")
# what a working folder holds beside the code; data sets and environments would fill every limit
IGNORED = {"__pycache__", "__macosx", "node_modules", "venv", "env", "site-packages", "results", "runs", "wandb",
           "data", "cifar10", "cifar-10-batches-py", "mnist", "grades"}
NOT_CODE = {".pdf", ".png", ".jpg", ".jpeg", ".gif", ".svg", ".doc", ".docx", ".odt", ".tex", ".html", ".ipynb", ".zip",
            ".gz", ".tar", ".mp4", ".pt", ".pth", ".pkl"}
MAX_MEMBERS = 5000
MAX_FILE = 30 * 2**20
MAX_TOTAL = 200 * 2**20
MAX_RATIO = 200  # of a member's size to its packed size, from RATIO_FROM bytes on
RATIO_FROM = 2**20
MAX_DEPTH = 20
CHUNK = 2**16


class Unreadable(Exception):
    """A submission that cannot be taken in: one line that says why."""


@dataclass
class Submission:
    """A submission's own files in a folder of ours.

    code: where its `modules.py` lies. report: whether there is a PDF. notes: what was left out, for the TA.
    """

    code: Path
    report: bool = False
    notes: list[str] = field(default_factory=list)


def digest(path: Path) -> str:
    """A hash of what is submitted, so that a changed submission is graded again. Raises Unreadable."""
    result = hashlib.sha256()
    try:
        if path.is_dir():
            for name, file in _files(path, []):
                result.update(f"{name}\0{file.stat().st_size}\0".encode("utf-8", "surrogateescape"))
                result.update(file.read_bytes() if file.stat().st_size <= MAX_FILE else b"")
        else:
            with open(path, "rb") as stream:
                while chunk := stream.read(2**20):
                    result.update(chunk)
    except OSError as error:
        raise Unreadable(f"{path} cannot be read: {error.strerror}") from None
    return result.hexdigest()


def take_in(path: Path, folder: Path) -> Submission:
    """Copy or extract `path` into the empty `folder`, and find the code in it. Raises Unreadable."""
    folder.mkdir(parents=True)
    notes: list[str] = []
    try:
        report = (_copy if path.is_dir() else _extract)(path, folder, notes)
    except OSError as error:
        raise Unreadable(f"{path.name}: {error.strerror or error}") from None
    code = find_code(folder)
    others = sorted(str(path.parent.relative_to(folder)) for path in folder.rglob(MARKER) if path.parent != code)
    if others:
        notes.append(f"{MARKER} lies in {len(others) + 1} folders: {code.relative_to(folder)} is graded, not "
                     f"{', '.join(others[:3])}")
    return Submission(code, report, notes)


def find_code(folder: Path) -> Path:
    """The folder that holds the code: with `modules.py`, then with most of the expected files, then the shallowest."""
    def rank(candidate: Path) -> tuple:
        names = {name for name in EXPECTED if (candidate / name).is_file()}
        return (MARKER not in names, -len(names), len(candidate.parts), str(candidate))

    folders = [folder, *(path for path in folder.rglob("*") if path.is_dir())]
    best = min(folders, key=rank)
    if not any((best / name).is_file() for name in EXPECTED):
        raise Unreadable(f"holds no {MARKER}, nor any other file of the assignment; of a folder of submissions, give "
                         "each one: FOLDER/*")
    return best


def _safe(name: str) -> PurePosixPath | None:
    """A member's path below the folder, or None for one that leaves it or cannot be a file's name here."""
    path = PurePosixPath(name.replace("\\", "/"))
    parts = [part for part in path.parts if part not in ("", ".")]
    if path.is_absolute() or not parts or len(parts) > MAX_DEPTH or ":" in parts[0]:
        return None
    if any(part == ".." or "\0" in part or len(part.encode("utf-8", "surrogateescape")) > 200 for part in parts):
        return None
    return PurePosixPath(*parts)


def _ignored(parts: tuple[str, ...]) -> bool:
    return any(part.lower() in IGNORED or part.startswith(".") for part in parts)


class _Budget:
    """Counts bytes as they are written and refuses more than the limits."""

    def __init__(self) -> None:
        self.total = self.members = 0

    def member(self) -> None:
        self.members += 1
        if self.members > MAX_MEMBERS:
            raise Unreadable(f"holds more than {MAX_MEMBERS} files")

    def add(self, size: int, of_file: int, name: str) -> None:
        self.total += size
        if of_file > MAX_FILE:
            raise Unreadable(f"{name} has more than {MAX_FILE // 2**20} MB")
        if self.total > MAX_TOTAL:
            raise Unreadable(f"holds more than {MAX_TOTAL // 2**20} MB")


def _extract(path: Path, folder: Path, notes: list[str]) -> bool:
    """Extract the code; whether there is a report."""
    budget, links, outside, report = _Budget(), 0, 0, False
    try:
        with zipfile.ZipFile(path) as file:
            for member in file.infolist():
                budget.member()
                name = _safe(member.filename)
                if name is None:
                    outside += 1
                    continue
                if stat.S_ISLNK(member.external_attr >> 16):
                    links += 1
                    continue
                if member.is_dir() or _ignored(name.parts):
                    continue
                report = report or name.suffix.lower() == ".pdf"
                if name.suffix.lower() in NOT_CODE:
                    continue
                if member.flag_bits & 1:
                    raise Unreadable("is protected by a password")
                if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                    raise Unreadable("is packed by an unusual method")  # whose output cannot be had in small pieces
                _extract_member(file, member, folder.joinpath(*name.parts), budget)
    except zipfile.BadZipFile as error:
        raise Unreadable(f"is not a ZIP file, or a damaged one ({str(error)[:80]})") from None
    except (NotImplementedError, zlib.error, EOFError, ValueError, OverflowError, struct.error, RuntimeError,
            MemoryError, IndexError) as error:
        raise Unreadable(f"cannot be unpacked ({type(error).__name__}: {str(error)[:80]})") from None
    _note(notes, links, "link", "left out")
    _note(notes, outside, "path", "outside its folder left out")
    return report


def _note(notes: list[str], number: int, what: str, rest: str) -> None:
    if number:
        notes.append(f"{number} {what}{'s' if number > 1 else ''} {rest}")


def _extract_member(file: zipfile.ZipFile, member: zipfile.ZipInfo, target: Path, budget: _Budget) -> None:
    written = 0
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    except (FileExistsError, NotADirectoryError, IsADirectoryError):
        raise Unreadable(f"holds {member.filename[:80]!r} twice, or as file and folder") from None
    with os.fdopen(descriptor, "wb") as out, file.open(member) as packed:
        while chunk := packed.read(CHUNK):
            written += len(chunk)
            budget.add(len(chunk), written, target.name)
            if written > RATIO_FROM and written > MAX_RATIO * max(member.compress_size, 1):
                raise Unreadable(f"{target.name} unpacks to more than {MAX_RATIO} times its size")
            out.write(chunk)


def _files(path: Path, notes: list[str]) -> list[tuple[str, Path]]:
    """(relative name, path) of the regular files of a submitted folder, sorted."""
    found, links = [], 0
    for parent, folders, names in os.walk(path):
        here = Path(parent)
        kept = []
        for name in folders:
            if (here / name).is_symlink():
                links += 1
            elif not _ignored((name,)) and not (here / name / "pyvenv.cfg").exists():
                kept.append(name)
        folders[:] = sorted(kept)
        for name in names:
            file = here / name
            mode = file.lstat().st_mode
            links += stat.S_ISLNK(mode)
            if stat.S_ISREG(mode) and not _ignored((name,)):
                found.append((str(file.relative_to(path)), file))
        if len(found) > MAX_MEMBERS:
            raise Unreadable(f"holds more than {MAX_MEMBERS} files")
    _note(notes, links, "link", "left out")
    return sorted(found)


def _copy(path: Path, folder: Path, notes: list[str]) -> bool:
    """Copy the code; whether there is a report."""
    budget, files = _Budget(), _files(path, notes)
    for name, file in files:
        if file.suffix.lower() in NOT_CODE:
            continue
        size = file.stat().st_size
        if size > MAX_FILE:
            notes.append(f"{file.name}: more than {MAX_FILE // 2**20} MB, left out")
            continue
        budget.add(size, size, name)
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(file.read_bytes())
    return any(file.suffix.lower() == ".pdf" for _, file in files)
