"""Takes a submission, an archive or a folder, into a folder of the grader's own. Nothing of it is trusted.

It is laid out as it was packed, with its empty folders: scripts save into them. Left out is what is not code and may be
bulky (pictures, reports, environments, data sets, trained models); the folders it lay in are made all the same. Sizes
are counted while unpacking, not believed; no entry leaves the folder; links and special files are left out.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import itertools
import re
import tempfile
import zipfile
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO

from grading import unpack
from grading.questions import FILES as EXPECTED
from grading.unpack import Entry, Unreadable, is_archive, parts_of, readable

MARKER = "modules.py"
# folders whose content is left out: environments and what programs keep there; `grades` is what this program writes
EMPTIED = {"__pycache__", "node_modules", "venv", "site-packages", "grades"}
ENVIRONMENT = "pyvenv.cfg"  # a virtual environment of any name holds this file
NO_FOLDER = "__macosx"
NOT_CODE = {".pdf", ".png", ".jpg", ".jpeg", ".gif", ".svg", ".bmp", ".eps", ".doc", ".docx", ".odt", ".tex", ".html",
            ".ipynb", ".gz", ".mp4"}
MODELS = {".pt", ".pth", ".ckpt", ".h5", ".pkl", ".pickle"}  # left out as well; large ones with a note
DATA_FILE = re.compile(r"data_batch_\d|test_batch|batches\.meta|.*-(images|labels)-idx\d-ubyte")
# 'assignment_1.pdf', 'DL_Practical1_MLPs_and_Backprop.pdf': how a handout is called, and a report is not
HANDOUT = re.compile(r"(?:uva|dl|deep|learning|fall|course|[ _.-]|20\d\d)*(?:assignment|practical|homework|handout)"
                     r"(?:[ _.-]|\d+|i|one|mlps?|cnns?|and|backprop\w*|text|description|instructions|handout)*")
MAX_MEMBERS = 5000
MOST_HASHED = 256 * 2**20  # bytes of a folder; it is done for the whole class before anybody is graded
MAX_FILE = 30 * 2**20
MAX_TOTAL = 200 * 2**20
MAX_RATIO = 200  # of an entry's size to its packed size, from RATIO_FROM bytes on
RATIO_FROM = 2**20
CHUNK = 2**16
# what names and bytes in a submission can cause; every other error of the system is the machine's
THEIRS = {None, errno.ENAMETOOLONG, errno.EINVAL, errno.EILSEQ, errno.ELOOP, errno.ENOTDIR, errno.EISDIR, errno.EEXIST}


@dataclass
class Submission:
    """A submission's own files in a folder of ours.

    code: where its `modules.py` lies. pdfs: names of its PDF files. notes: what was left out, for the TA.
    """

    code: Path
    pdfs: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def no_report(self) -> str:
        """What is wrong where no PDF looks like a report; '' where one does."""
        if not self.pdfs:
            return "no report (PDF)"
        if all(HANDOUT.fullmatch(Path(name).stem.lower()) for name in self.pdfs):
            return f"no report but {self.pdfs[0]}, which is named like the assignment's own text"
        return ""


def digest(path: Path) -> str:
    """A hash of what is submitted, so that a changed submission is graded again.

    Of a folder that holds more than MOST_HASHED bytes, the rest counts by names and sizes.

    Raises:
        Unreadable: it cannot be read.
        OSError: not on this machine, or not now.
    """
    result, left = hashlib.sha256(), MOST_HASHED
    with _reading(path):
        if path.is_dir():
            for entry in unpack.folder_entries(path, _inside(path)):
                parts = parts_of(entry.name)
                if not parts or parts[-1].startswith(".") or parts[-1].lower() in EMPTIED:
                    continue
                kept = sorted_out(parts, entry.kind)
                if entry.kind in ("file", "folder") and kept[:len(parts) - 1] == parts[:-1]:
                    result.update(f"{entry.name}\0{entry.kind}\0{entry.size}\0".encode("utf-8", "surrogateescape"))
                    if kept == parts and entry.size <= min(MAX_FILE, left):
                        left -= entry.size
                        with entry.open() as stream:
                            result.update(stream.read())
        else:
            with open(path, "rb") as stream:
                while chunk := stream.read(2**20):
                    result.update(chunk)
    return result.hexdigest()


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[None]:
    """The system's errors that a submission itself causes become Unreadable."""
    try:
        yield
    except OSError as error:
        if error.errno not in THEIRS:
            raise
        raise Unreadable(f"cannot be read: {path.name}: {error.strerror or error}") from None


def take_in(path: Path, folder: Path) -> Submission:
    """Copy or unpack `path` into the empty `folder`, and find the code in it.

    Raises:
        Unreadable: it cannot be read.
        OSError: this machine has no room for it, or the like.
    """
    folder.mkdir(parents=True)
    layout = Layout(folder)
    with _reading(path):
        if path.is_dir():
            layout.add(unpack.folder_entries(path, _inside(path)))
        else:
            ending = path.suffix.lower()
            if ending in unpack.SINGLE and not zipfile.is_zipfile(path):
                raise Unreadable(unpack.SINGLE[ending])
            with open(path, "rb") as file:
                layout.unpack(file, nested=True)
    code = find_code(folder, layout.seen)
    notes = layout.told()
    others = sorted(str(path.parent.relative_to(folder)) for path in folder.rglob(MARKER) if path.parent != code)
    if others:
        notes.append(f"{MARKER} lies in {len(others) + 1} folders: {code.relative_to(folder)} is graded, not "
                     f"{', '.join(others[:3])}")
    return Submission(code, layout.pdfs, notes)


def _inside(path: Path) -> Callable[[tuple[str, ...]], bool]:
    """Whether to look into a folder of a submitted folder."""
    def inside(parts: tuple[str, ...]) -> bool:
        here = path.joinpath(*parts)
        environment = (here / ENVIRONMENT).exists() and not any((here / name).exists() for name in EXPECTED)
        return sorted_out((*parts, "x"), "file") == (*parts, "x") and not environment

    return inside


def find_code(folder: Path, names: list[str]) -> Path:
    """The folder that holds the code: with `modules.py`, then with most of the expected files, then the shallowest.

    names: of everything that was packed, for the message where there is none.
    """
    def rank(candidate: Path) -> tuple:
        found = {name for name in EXPECTED if (candidate / name).is_file()}
        return (MARKER not in found, -len(found), len(candidate.parts), str(candidate))

    best = min([folder, *(path for path in folder.rglob("*") if path.is_dir())], key=rank)
    if any((best / name).is_file() for name in EXPECTED):
        return best
    if not names and not any(folder.iterdir()):
        raise Unreadable(f"is empty: {unpack.AGAIN}")
    notebooks = [PurePosixPath(name).name for name in names if name.lower().endswith(".ipynb")]
    if notebooks and not any(name.lower().endswith(".py") for name in names):
        raise Unreadable(f"holds notebooks ({', '.join(notebooks[:2])}) and no Python file: export the code as .py "
                         f"files with the assignment's names ({MARKER}, ...)")
    if archives := [PurePosixPath(name).name for name in names if is_archive(name)]:
        raise Unreadable(f"holds no {MARKER} but {', '.join(archives[:3])}")
    raise Unreadable(f"holds no {MARKER}, nor any other file of the assignment")


def in_pieces(path: Path) -> list[Path]:
    """The one archive in a folder without code, as a student uploaded it, and the files beside it; else nothing."""
    with contextlib.suppress(OSError):  # what cannot be read is told where it is taken in
        files = [inner for inner in sorted(path.iterdir()) if inner.is_file() and not inner.name.startswith(".")]
        packed = [file for file in files if is_archive(file.name)]
        if len(packed) == 1 and not any(path.rglob("*.py")):
            return packed + [file for file in files if file not in packed]
    return []


def may_be_a_class(path: Path) -> bool:
    """Whether it is a folder that could hold submissions: with folders or archives in it."""
    return path.is_dir() and any(inner.is_dir() or is_archive(inner.name) for inner in path.iterdir())


def sorted_out(parts: tuple[str, ...], kind: str) -> tuple[str, ...]:
    """`parts` of an entry that is kept; of another, the parts of the folder that is made in its place."""
    for i, part in enumerate(parts if kind == "folder" else parts[:-1]):
        if part.startswith(".") or part.lower() == NO_FOLDER:
            return parts[:i]
        if part.lower() in EMPTIED and (kind != "folder" or i < len(parts) - 1):
            return parts[:i + 1]
    if kind == "folder":
        return parts
    name = parts[-1].lower()
    dropped = (name.startswith(".") or PurePosixPath(name).suffix in NOT_CODE | MODELS or is_archive(name)
               or DATA_FILE.fullmatch(name))
    return parts[:-1] if dropped else parts


class Layout:
    """Lays entries out in `folder`, counts what it writes, and refuses more than the limits.

    seen: names of the files that were packed. pdfs: those of PDF files.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self.seen: list[str] = []
        self.pdfs: list[str] = []
        self.notes: list[str] = []
        self.too_much: list[str] = []
        self.others: Counter[tuple[str, str]] = Counter()  # entries that are neither file nor folder
        self.members = self.total = 0

    def told(self) -> list[str]:
        """Notes on what was left out."""
        notes = [f"{number} {noun}{'s' * (number > 1)} {rest}" for (noun, rest), number in sorted(self.others.items())]
        if self.too_much:
            more = f" and {len(self.too_much) - 3} more" if len(self.too_much) > 3 else ""
            notes.append(f"left out: {', '.join(self.too_much[:3])}{more}")
        return notes + self.notes

    def unpack(self, file: IO[bytes], nested: bool, prefix: tuple[str, ...] = ()) -> None:
        """Lay out an archive. nested: where it holds no code, take the one archive in it that does."""
        files = kept_files(file)
        environments = folders_of(files, ENVIRONMENT) - folders_of(files, *EXPECTED)
        with readable():
            inner = self._archives_with_code(file) if nested and not folders_of(files, *EXPECTED) else {}
            if len(inner) > 1:
                raise Unreadable(f"holds {len(inner)} archives with code ({', '.join(list(inner)[:3])}): hand in one")
            self.add(unpack.entries(file), prefix, environments)
        for name, content in inner.items():
            self.notes.append(f"the code is in {name}, an archive inside the archive")
            self.unpack(content, False, (*(parts_of(name) or ())[:-1], f"{PurePosixPath(name).stem} (unpacked)"))

    def _archives_with_code(self, file: IO[bytes]) -> dict[str, IO[bytes]]:
        """{name: content, in a temporary file} of the archives among an archive's entries that hold code."""
        found: dict[str, IO[bytes]] = {}
        wrong = ""
        for entry in unpack.entries(file):
            if entry.kind != "file" or not is_archive(entry.name) or entry.name.startswith("__MACOSX"):
                continue
            content = tempfile.TemporaryFile()  # noqa: SIM115 (removed with its last reference)
            try:
                if reason := self._write(entry, content, MAX_TOTAL):
                    raise Unreadable(f"has {reason}")
                if folders_of(kept_files(content), *EXPECTED):
                    found[entry.name] = content
            except Unreadable as error:
                wrong = wrong or f"holds no {MARKER} but {PurePosixPath(entry.name).name}, which {error}"
        if wrong and not found:
            raise Unreadable(wrong)
        return found

    def add(self, entries: Iterator[Entry], prefix: tuple[str, ...] = (),
            environments: Collection[tuple[str, ...]] = ()) -> None:
        """Lay out the entries. environments: folders whose content is left out."""
        for entry in entries:
            parts = parts_of(entry.name)
            if parts is None:
                self.others["path", "outside its folder left out"] += 1
            elif entry.kind not in ("file", "folder"):
                self.others[entry.kind, "left out"] += 1
            elif parts:
                self._add(entry, parts, prefix, environments)

    def _add(self, entry: Entry, parts: tuple[str, ...], prefix: tuple[str, ...],
             environments: Collection[tuple[str, ...]]) -> None:
        kept = sorted_out(parts, entry.kind)
        kept = next((parts[:i] for i in range(len(kept)) if parts[:i] in environments), kept)
        if entry.kind == "file" and kept[:len(parts) - 1] == parts[:-1]:
            self.seen.append(entry.name)
            if parts[-1].lower().endswith(".pdf") and not parts[-1].startswith("."):
                self.pdfs.append(parts[-1])
        model = kept == parts[:-1] and PurePosixPath(parts[-1].lower()).suffix in MODELS
        if entry.kind == "file" and (kept == parts or model) and entry.size > MAX_FILE:
            self._leave_out(parts, f"more than {MAX_FILE // 2**20} MB")
            kept = parts[:-1]
        target = self.folder.joinpath(*prefix, *kept)
        try:
            if kept != parts or entry.kind == "folder":
                self._make(target)
            else:
                self._make(target.parent)
                self._member()
                with open(target, "xb") as out:
                    reason = self._write(entry, out, MAX_FILE)
                if reason:
                    target.unlink()
                    self._leave_out(parts, reason)
        except (FileExistsError, NotADirectoryError, IsADirectoryError):
            raise Unreadable(f"holds {entry.name[:80]!r} twice, or as file and folder") from None

    def _make(self, folder: Path) -> None:
        """Make a folder and those above it, each of which counts."""
        missing = itertools.takewhile(lambda path: not path.is_dir(), (folder, *folder.parents))
        for path in reversed(list(missing)):
            self._member()
            path.mkdir()

    def _member(self) -> None:
        self.members += 1
        if self.members > MAX_MEMBERS:
            raise Unreadable(f"holds more than {MAX_MEMBERS} files and folders: hand in the code without environments "
                             "and data sets")

    def _leave_out(self, parts: tuple[str, ...], reason: str) -> None:
        """A note, for a file beside the code. Raises Unreadable for a Python file."""
        if parts[-1].endswith(".py"):
            raise Unreadable(f"holds {parts[-1]}, which has {reason}")
        self.too_much.append(f"{parts[-1]} ({reason})")

    def _write(self, entry: Entry, out: IO[bytes], most: int) -> str:
        """Write its content to `out`, counting; why it is to be left out, where it is too much."""
        written = 0
        with entry.open() as stream:
            while chunk := stream.read(CHUNK):
                written += len(chunk)
                self.total += len(chunk)
                if written > most:
                    return f"more than {most // 2**20} MB"
                if entry.packed and written > RATIO_FROM and written > MAX_RATIO * entry.packed:
                    return f"more than {MAX_RATIO} times the bytes it is packed in"
                if self.total > MAX_TOTAL:
                    raise Unreadable(f"holds more than {MAX_TOTAL // 2**20} MB: hand in the code without data sets and "
                                     "trained models")
                out.write(chunk)
        return ""


def kept_files(file: IO[bytes]) -> list[tuple[str, ...]]:
    """The parts of the files of an archive that would be kept."""
    found = [parts_of(entry.name) for entry in unpack.entries(file) if entry.kind == "file"]
    return [parts for parts in found if parts and sorted_out(parts, "file") == parts]


def folders_of(files: Collection[tuple[str, ...]], *names: str) -> set[tuple[str, ...]]:
    """The parts of each folder that holds a file of one of these names."""
    return {parts[:-1] for parts in files if parts[-1] in names}
