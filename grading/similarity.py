"""Finds submissions that share code, for a person to look at: never points.

Fingerprints of tokens by winnowing (Schleimer, Wilkerson and Aiken, "Winnowing: local algorithms for document
fingerprinting", SIGMOD 2003): a text is the sequence of its tokens, without comments, blank space and docstrings; of
the hashes of all runs of `RUN` tokens, the smallest of every `WINDOW` in a row is kept. Two texts that have
`RUN + WINDOW - 1` tokens in a row in common have a fingerprint in common, wherever those lie. Names that a file itself
gives to something count as one name, so that renaming changes nothing; those of libraries stay. Runs of tokens that are
in the handout are left out, as are those that a large part of the class has: they are how the thing is written.

copydetect does the same. It is not used because its hashes differ from run to run, because it subtracts too much for
the handout (it intersects arrays with duplicates as if there were none), and because a hostile text can keep it busy.
"""

from __future__ import annotations

import ast
import contextlib
import functools
import json
import keyword
import re
import tempfile
import warnings
import zlib
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from grading.archive import EXPECTED, Unreadable, take_in
from grading.files import ONE_PARSER, write, write_json
from grading.page import render
from grading.starter import StarterError, local_imports, write_starter
from grading.submission import DATA_UTILITIES, REFERENCE

CODE = "code.json"  # a student's Python files as they were compared, beside the record
PAGE = "similarity.html"
RUN, WINDOW = 12, 6
# The largest share of a file's fingerprints from which on a pair is shown. On tests/handins, files that were written
# independently of each other reach 0.36, and copies with every name changed, the functions in another order and no
# comment left have 0.46 to 1, half of them 0.85 or more.
THRESHOLD = 0.42
FEWEST = 12  # fingerprints of a file; the share of fewer says nothing
COMMON, FEW = 0.25, 8  # a fingerprint in more than this part of the class, and in more than FEW, is how it is written
SAMPLE = 16  # of a file's fingerprints, the smallest; two copies have three quarters of them in common
MOST_BYTES, MOST_FILES = 512 * 2**10, 100  # of a submission; real ones have a tenth of that
MOST_PAIRS, MOST_FRAGMENTS, MOST_LINES, MOST_WIDTH = 100, 12, 60, 200  # that a page shows
OTHER = "·"  # a name that the submission has chosen
TOKEN = re.compile(r"""(?P<blank>[^\S\n]+|\\\n) | (?P<line>\n) | (?P<comment>\#[^\n]*)
    | (?P<doc>[rRbBuUfF]{0,2}(?:\"\"\"(?:[^\\]|\\.?)*?(?:\"\"\"|\Z) | '''(?:[^\\]|\\.?)*?(?:'''|\Z)))
    | (?P<string>[rRbBuUfF]{0,2}(?:"(?:[^"\\\n]|\\.)*"? | '(?:[^'\\\n]|\\.)*'?))
    | (?P<name>[^\W\d]\w*) | (?P<number>\.?\d(?:[eE][+-]|[\w.])*) | (?P<other>\S)""", re.VERBOSE | re.DOTALL)
KEYWORDS = frozenset(keyword.kwlist)

Sources = Mapping[str, str]  # a submission: {file: text}


@dataclass(frozen=True)
class Place:
    """Where a fingerprint lies: its first and last line, and the number of its first token."""

    file: str
    first: int
    last: int
    token: int


@dataclass(frozen=True)
class Passage:
    """Lines of a file."""

    file: str
    first: int
    last: int
    lines: Sequence[str]


@dataclass(frozen=True)
class Pair:
    """Two submissions: the largest share of the fingerprints of a file of the one that a file of the other has too.

    passages: what they have in common, as the one and as the other writes it, the longest first; () beyond MOST_PAIRS.
    """

    one: str
    other: str
    share: float
    file: str
    other_file: str
    passages: Sequence[tuple[Passage, Passage]] = ()


@dataclass(frozen=True)
class Found:
    """What a class has in common. handout: by submission, the share of its fingerprints that the handout has."""

    pairs: Sequence[Pair]
    handout: Mapping[str, float]


@functools.cache
def data_files() -> frozenset[str]:
    """The data utilities and what they import, which the grader adds to a submission."""
    return frozenset(local_imports(REFERENCE, [DATA_UTILITIES]))


def sources(code: Path, all_of_it: bool = False) -> dict[str, str]:
    """The Python files below `code` but for the data utilities, which nobody writes.

    In all no more than MOST_BYTES and MOST_FILES, those first that the assignment asks for: of what is beyond, the
    names alone, unless all of it is wanted.
    """
    found: dict[str, str] = {}
    left = -1 if all_of_it else MOST_BYTES
    for path in sorted(code.rglob("*.py"), key=lambda path: (path.name not in EXPECTED, len(path.parts), str(path))):
        name = path.relative_to(code).as_posix()
        if path.is_file() and not path.is_symlink() and path.name != DATA_UTILITIES and name not in data_files():
            with open(path, "rb") as stream:
                content = stream.read(left if all_of_it or len(found) < MOST_FILES else 0)
            left -= 0 if all_of_it else len(content)
            text = content.decode("utf-8", "replace").replace("\r\n", "\n")
            found[str(path.relative_to(code)).encode("utf-8", "replace").decode()] = text
    return found


def in_part(submission: Sources) -> bool:
    """Whether a submission may hold more than is compared."""
    return len(submission) > MOST_FILES or sum(len(text.encode()) for text in submission.values()) >= MOST_BYTES


def chosen(text: str) -> tuple[set[str], set[str]] | None:
    """The names and the attributes that a text gives to something, so that it may as well give others.

    None where it is not Python.
    """
    try:
        with ONE_PARSER, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            nodes = list(ast.walk(ast.parse(text)))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    plain: set[str | None] = set()
    attributes: set[str | None] = set()
    for node in nodes:
        if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            plain.add(node.id)
        elif isinstance(node, ast.Attribute) and not isinstance(node.ctx, ast.Load):
            attributes.add(node.attr)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            plain.add(node.name)
            attributes.add(node.name)
        elif isinstance(node, ast.arg | ast.keyword):
            plain.add(node.arg)
        elif isinstance(node, ast.ExceptHandler):
            plain.add(node.name)
        elif isinstance(node, ast.alias):
            plain.add((node.asname or node.name).partition(".")[0])
    return {name for name in plain if name}, {name for name in attributes if name}


def tokens(text: str) -> tuple[list[str], list[int]]:
    """The tokens of any text, and the line of each. Parentheses, often a matter of taste, are not among them."""
    free = chosen(text)
    found: list[str] = []
    lines: list[int] = []
    line = 1
    for match in TOKEN.finditer(text):
        kind, value = match.lastgroup, match.group()
        if kind == "name":
            after_dot = bool(found) and found[-1] == "."
            renamed = value not in KEYWORDS and (free is None or value in free[after_dot])
            found.append(OTHER if renamed else value)
        elif kind == "number":
            with contextlib.suppress(ValueError):
                value = repr(float(value))
            found.append(value)
        elif kind == "string" or (kind == "other" and value not in "()"):
            found.append("''" if kind == "string" else value)
        lines += [line] * (len(found) - len(lines))
        line += value.count("\n")
    return found, lines


def hashes(found: Sequence[str]) -> np.ndarray:
    """A hash uint64 (n - RUN + 1,) of every run of RUN of the n tokens; none of a shorter text."""
    codes = np.array([zlib.crc32(token.encode("utf-8", "replace")) for token in found], np.uint64)
    runs = max(len(codes) - RUN + 1, 0)
    result = np.zeros(runs, np.uint64)
    for i in range(RUN if runs else 0):
        result = result * np.uint64(0x9E3779B97F4A7C15) + codes[i:i + runs]  # modulo 2^64
    return result ^ (result >> np.uint64(29))


def winnowed(values: np.ndarray) -> np.ndarray:
    """The places of the smallest of every WINDOW hashes in a row, the rightmost of equal ones."""
    if len(values) < WINDOW:
        return np.array([int(values.argmin())]) if len(values) else np.array([], int)
    windows = np.lib.stride_tricks.sliding_window_view(values, WINDOW)
    return np.unique(np.arange(len(windows)) + WINDOW - 1 - windows[:, ::-1].argmin(axis=1))


def all_hashes(texts: Iterable[str]) -> set[int]:
    """Every hash of the texts, not only fingerprints: what is left out."""
    return {value for text in texts for value in hashes(tokens(text)[0]).tolist()}


Prints = dict[str, dict[int, Place]]
Owners = dict[int, dict[str, list[str]]]  # of a hash: the submissions that have it, and in which files


def fingerprints(submission: Sources, without: Collection[int] = ()) -> Prints:
    """{file: {hash: where it lies first}} of the files that have any."""
    result = {}
    for file, text in submission.items():
        found, lines = tokens(text)
        values = hashes(found)
        places: dict[int, Place] = {}
        for i in winnowed(values).tolist():
            if (value := int(values[i])) not in without:
                places.setdefault(value, Place(file, lines[i], lines[i + RUN - 1], i))
        if places:
            result[file] = places
    return result


def compare(class_: Mapping[str, Sources], handout: Sources, others: Mapping[str, Sources]) -> Found:
    """Compare the submissions of a class with each other and with `others`, who are not compared with each other."""
    without = all_hashes(handout.values())
    shares, prints = {}, {}
    for name, submission in {**others, **class_}.items():
        whole = fingerprints(submission)
        prints[name] = {file: {value: place for value, place in places.items() if value not in without}
                        for file, places in whole.items()}
        number = sum(map(len, whole.values()))
        shares[name] = 1 - sum(map(len, prints[name].values())) / number if number else 0.0
    owners: Owners = defaultdict(lambda: defaultdict(list))
    for name, files in prints.items():
        for file, places in files.items():
            for value in places:
                owners[value][name].append(file)
    original = originals(prints)
    most = max(FEW, COMMON * len(class_))
    for value, files_of in list(owners.items()):
        if len({original[name, file] for name in files_of.keys() & class_.keys() for file in files_of[name]}) > most:
            for name, of_name in owners.pop(value).items():
                for file in of_name:
                    del prints[name][file][value]
    found = sorted(best(prints, owners, class_.keys()), key=lambda pair: (-pair.share, pair.one, pair.other))
    texts = {**others, **class_}
    shown = [replace(pair, passages=passages(prints, texts, pair.one, pair.other)) for pair in found[:MOST_PAIRS]]
    return Found([*shown, *found[MOST_PAIRS:]], {name: share for name, share in shares.items() if name in class_})


def originals(prints: Mapping[str, Prints]) -> dict[tuple[str, str], tuple[str, str]]:
    """{(submission, file): the first one that it is like}.

    Copies of one file count once, or what many have copied would be taken for how it is written.
    """
    samples: dict[tuple[str, str], frozenset[int]] = {}
    found = {}
    for name, files in prints.items():
        for file, places in files.items():
            sample = frozenset(sorted(places)[:SAMPLE])
            like = (other for other, its in samples.items() if 4 * len(sample & its) >= 3 * SAMPLE)
            found[name, file] = next(like, (name, file))
            if found[name, file] == (name, file) and len(places) >= FEWEST:
                samples[name, file] = sample
    return found


def best(prints: Mapping[str, Prints], owners: Owners, class_: Collection[str]) -> list[Pair]:
    """The pairs with a member of the class from THRESHOLD on. The cost grows with what is shared."""
    found: dict[frozenset[str], Pair] = {}
    for name, files in prints.items():
        for file, places in files.items():
            if len(places) < FEWEST:
                continue
            counts = Counter((other, other_file) for value in places for other, its in owners[value].items()
                             if other != name for other_file in its)
            for (other, other_file), number in counts.items():
                pair = Pair(name, other, number / len(places), file, other_file)
                if pair.share < THRESHOLD or not (name in class_ or other in class_):
                    continue
                key = frozenset((name, other))
                if key not in found or found[key].share < pair.share:
                    found[key] = pair
    return list(found.values())


def passages(prints: Mapping[str, Prints], texts: Mapping[str, Sources], one: str,
             other: str) -> list[tuple[Passage, Passage]]:
    """What two submissions have in common: fingerprints that follow each other in both, joined."""
    theirs = {value: place for places in prints[other].values() for value, place in places.items()}
    pairs = sorted(((place, theirs[value]) for places in prints[one].values() for value, place in places.items()
                    if value in theirs), key=lambda pair: (pair[0].file, pair[0].token))
    chains: list[list[tuple[Place, Place]]] = []
    for pair in pairs:
        follows = bool(chains) and all(
            new.file == old.file and 0 <= new.token - old.token <= RUN + WINDOW
            for new, old in zip(pair, chains[-1][-1], strict=True))
        if follows:
            chains[-1].append(pair)
        else:
            chains.append([pair])
    chains.sort(key=lambda chain: chain[0][0].token - chain[-1][0].token)
    return [(passage(texts[one], [pair[0] for pair in chain]), passage(texts[other], [pair[1] for pair in chain]))
            for chain in chains[:MOST_FRAGMENTS]]


def passage(submission: Sources, places: Sequence[Place]) -> Passage:
    file, first, last = places[0].file, places[0].first, max(place.last for place in places)
    lines = submission[file].split("\n")[first - 1:last][:MOST_LINES]
    return Passage(file, first, last, [line.expandtabs(4)[:MOST_WIDTH] for line in lines])


def handed_out(folders: Sequence[Path]) -> dict[str, str]:
    """What every student was given: the handout made from the reference, where it can be made, and `folders`."""
    found: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as folder, contextlib.suppress(StarterError):
        write_starter(Path(folder), REFERENCE)
        found = {f"starter/{name}": text for name, text in sources(Path(folder)).items()}
    for folder_given in folders:
        found |= {f"{folder_given}/{name}": text for name, text in sources(folder_given, all_of_it=True).items()}
    return found


def reference() -> dict[str, str]:
    """The files of the reference that the assignment asks for, and what they import."""
    return {name: (REFERENCE / name).read_text(encoding="utf-8") for name in local_imports(REFERENCE, EXPECTED)
            if name not in data_files()}


def earlier(folder: Path) -> dict[str, Sources]:
    """The submissions in a folder of another year: ZIP files and folders. What cannot be read is left out."""
    found: dict[str, Sources] = {}
    for path in sorted(folder.iterdir()):
        with tempfile.TemporaryDirectory() as work, contextlib.suppress(Unreadable):
            found[f"{folder.name}/{path.name}"] = sources(take_in(path, Path(work) / "code").code)
    return found


def keep(code: Path | None, folder: Path) -> None:
    """Keep the code of a student in `folder`, for this comparison and those with later submissions."""
    write_json(folder / CODE, sources(code) if code else {})


def write_page(out: Path, students: Mapping[str, Path], names: Mapping[str, str], handouts: Sequence[Path],
               years: Sequence[Path]) -> Found:
    """similarity.html of a class. students: {student: folder with its CODE}. names: by student, where known."""
    class_ = {}
    for student, folder in students.items():
        with contextlib.suppress(OSError, ValueError):
            class_[student] = json.loads((folder / CODE).read_text(encoding="utf-8"))
    others: dict[str, Sources] = {"the reference": reference()}
    for year in years:
        others |= earlier(year)
    found = compare(class_, handed_out(handouts), others)
    write(out / PAGE, render("similarity.html", pairs=found.pairs[:MOST_PAIRS], number=len(found.pairs), names=names,
                             years=bool(years),
                             threshold=THRESHOLD, compared=len(class_), handout=found.handout,
                             in_part=[student for student, submission in class_.items() if in_part(submission)],
                             most_files=MOST_FILES, most_kilobytes=MOST_BYTES // 2**10,
                             missing=[student for student in students if not class_.get(student)]))
    return found
