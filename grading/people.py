"""Who handed in: what the file names of Canvas and Brightspace say, the roster, and pseudonyms.

Tables and folders call a student by the key `student`, which depends on the file's name alone, or by a pseudonym.
"""

from __future__ import annotations

import re
import secrets
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from grading import spreadsheets
from grading.files import mark_of, write
from grading.spreadsheets import Row, TableError, cell, plain, same, to_csv
from grading.unpack import without_ending

KEY, ROSTER = "anonymous.csv", "roster.csv"
CANVAS = re.compile(r"(?P<name>[^_]+)(?P<late>_LATE)?_(?P<id>\d+)_(?P<order>\d{4,})_(?P<file>.+?)(-\d+)?")
GAP = r"[^-\d]"  # between a date's numbers: a month in any language, a dot, a space
DATE = rf"{GAP}*((\d\d?{GAP}+){{1,2}}20\d\d|20\d\d({GAP}+\d\d?){{1,2}}){GAP}+\d\d?{GAP}?\d\d{GAP}*?"
BRIGHTSPACE = re.compile(rf"(?P<id>\d+)-\d+ ?- (?P<name>.+?) ?- (?P<date>{DATE})( ?- (?P<file>.+))?")


@dataclass(frozen=True)
class HandIn:
    """What a file's name says.

    student: what tables call its student. id: Canvas's of the student. order: the later of two has the greater, and 0
    is not known. file: what the student called it, without its ending.
    """

    student: str
    name: str = ""
    id: str = ""
    late: bool = False
    order: float = 0
    file: str = ""


@dataclass(frozen=True)
class Person:
    """A line of the roster; what it does not say is ''.

    id: Canvas's. number: the student number (Canvas's SIS User ID, Brightspace's OrgDefinedId). file: what tables call
    their hand-in, where nothing else in its name tells them from another.
    """

    name: str = ""
    first: str = ""
    last: str = ""
    id: str = ""
    login: str = ""
    number: str = ""
    section: str = ""
    file: str = ""


# of each field, the columns it may stand in, as `squash` writes them: our own, Canvas's and Brightspace's exports
COLUMNS = {"name": ("name", "student", "fullname"),
           "first": ("firstname", "givenname"), "last": ("lastname", "surname"),
           "id": ("id", "canvasid", "canvasuserid"), "login": ("login", "sisloginid", "username", "loginid"),
           "number": ("number", "sisuserid", "sisid", "orgdefinedid", "studentnumber", "studentid"),
           "section": ("section", "sections", "group"), "file": ("file", "handin", "submission")}
TELLING = ("id", "login", "number")
NO_NAMES = {"assignment", "practical", "submission", "homework", "handin", "final", "code", "late", "practicum", "lab",
            "version", "copy", "files", "project", "mlps", "cnns"}  # words of file names


def squash(text: str) -> str:
    """Letters and digits alone, without case and accents."""
    return "".join(c for c in unicodedata.normalize("NFKD", text).casefold() if c.isalnum())


def parse(path: Path) -> HandIn:
    """What the name of an archive or folder says of its student; Brightspace names the folder around it, too."""
    name = path.name if path.is_dir() else without_ending(path.name)
    if found := CANVAS.fullmatch(name):
        return HandIn(f"{student_key(found['name'])}_{found['id']}", "", found["id"], bool(found["late"]),
                      int(found["order"]), found["file"])
    if found := BRIGHTSPACE.fullmatch(name) or BRIGHTSPACE.fullmatch(path.parent.name):
        return HandIn(f"{student_key(found['name'])} {found['id']}", found["name"], order=moment(found["date"]),
                      file=found["file"] or name)
    return HandIn(student_key(name) or "root", file=name)


def student_key(name: str) -> str:
    """`name` on one line and as tables compare names (`same`), with a mark where this changes it: so two students never
    have the same key, whatever spaces, accents or control characters are in their files' names.
    """
    shown = same("".join(c if c.isprintable() or c.isspace() else "_" for c in name))
    return shown if shown == name else f"{shown} {mark_of(name)}".strip()


def moment(date: str) -> float:
    """Brightspace's `Nov 12, 2026 131 PM` or `12 November 2026 13.31` as seconds; 0 for months that are not English."""
    words = " ".join(re.findall(r"\w+", date.replace("_", " ")))
    if not (found := re.search(r"(\w+) (\w+) (\d{4}) (\d\d?) ?(\d\d)(?: ([AP]) ?M\b)?", words, re.IGNORECASE)):
        return 0.0
    (day, month), (year, hour, minute, half) = sorted(found.group(1, 2)), found.group(3, 4, 5, 6)
    try:
        return datetime.strptime(f"{day} {month[:3]} {year} {hour} {minute}" + (f" {half}M" if half else ""),
                                 "%d %b %Y " + ("%I %M %p" if half else "%H %M")).timestamp()
    except ValueError:
        return 0.0


def read_roster(path: Path) -> list[Person]:
    """The class list: a CSV file with a column that tells students apart, and their names. Raises TableError."""
    header, rows = spreadsheets.read(path)
    columns = {field: name for field, names in COLUMNS.items() for name in header if squash(name) in names}
    if not set(columns) & set(TELLING):
        raise TableError(f"{path} has no column id, login or number; a gradebook exported from Canvas or Brightspace "
                         "is a roster, too")
    if not set(columns) & {"name", "last"}:
        raise TableError(f"{path} has no column name; columns are {', '.join(COLUMNS)}")
    people = [person for row in rows if (person := _person(row, columns))]
    for kind in TELLING:
        known = [value for person in people if (value := getattr(person, kind))]
        if twice := [value for value in known if known.count(value) > 1]:
            raise TableError(f"{path} has the {kind} {twice[0]} twice; keep one line")
    return people


def _person(row: Row, columns: Mapping[str, str]) -> Person | None:
    """A line's student; None for the lines that Canvas adds: points possible, and its test student."""
    found = Person(**{field: same(plain(row[name])).lstrip("#") for field, name in columns.items()})
    last, comma, first = (part.strip() for part in found.name.partition(","))
    if comma and not found.last:
        found = replace(found, name=f"{first} {last}", first=first, last=last)
    if not found.name:
        found = replace(found, name=f"{found.first} {found.last}".strip())
    if found.name == "Points Possible" or found.name == "Test Student" or not any(getattr(found, k) for k in TELLING):
        return None
    return found


def _names_another(words: Sequence[str], person: Person) -> bool:
    """Whether a word behind a last name may be another person's first name."""
    known = [squash(word) for word in person.name.split()]
    return any(word.isalpha() and len(word) > 2 and squash(word) not in NO_NAMES
               and not any(name.startswith(squash(word)) for name in known) for word in words)


def keys(person: Person) -> list[tuple[str, str]]:
    """What a file's name may call them by: (kind, text)."""
    words = person.name.split()
    lasts = [person.last] if person.last else [" ".join(words[i:]) for i in range(1, len(words))]
    names = [person.name, *(f"{last} {person.name.removesuffix(last)}" for last in lasts)]
    found = [(kind, squash(getattr(person, kind))) for kind in TELLING]
    found += [("login", squash(person.login.partition("@")[0])), ("file", squash(person.file))]
    found += [("name", squash(name)) for name in names] + [("last", squash(last)) for last in lasts]
    return [(kind, text) for kind, text in dict.fromkeys(found) if text]


def _told_apart(people: Sequence[Person]) -> str:
    """'Jane Doe (id 1001) and Jane Doe (id 1002)'."""
    shown = []
    for person in people:
        kind = next(kind for kind in TELLING if getattr(person, kind))
        shown.append(f"{person.name} ({kind} {getattr(person, kind)})")
    return " and ".join(shown[:3]) + " and others" * (len(shown) > 3)


@dataclass
class People:
    """Who the students are.

    roster: the class list, empty where none is known. pseudonyms: what each pseudonym stands for; None where students
    go by their own names.
    """

    roster: Sequence[Person] = ()
    pseudonyms: dict[str, HandIn] | None = None
    _index: dict[tuple[str, str], set[int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for i, person in enumerate(self.roster):
            for key in keys(person):
                self._index.setdefault(key, set()).add(i)

    def called(self, hand_in: HandIn) -> str:
        """What tables and folders call the student."""
        if self.pseudonyms is None:
            return hand_in.student
        for pseudonym, known in self.pseudonyms.items():
            if known.student == hand_in.student:
                return pseudonym
        taken = set(self.pseudonyms)
        while (pseudonym := f"student-{secrets.token_hex(3)}") in taken:
            pass
        self.pseudonyms[pseudonym] = hand_in
        return pseudonym

    def hand_in(self, record: Mapping[str, Any]) -> HandIn:
        """What the name of the file that was graded says."""
        if self.pseudonyms is not None:
            return self.pseudonyms.get(record["student"], HandIn(record["student"]))
        return HandIn(record["student"], record.get("name", ""), record.get("id", ""))

    def person(self, record: Mapping[str, Any]) -> Person | None:
        """The roster's line of a record's student; None where there is none, or more than one would do."""
        found = self.candidates(record)
        return found[0] if len(found) == 1 else None

    def candidates(self, record: Mapping[str, Any]) -> list[Person]:
        """The roster's lines that a record's student may be: by what tells most of those that the file's name says."""
        known = self.hand_in(record)
        words = re.split(r"[_\s-]+", known.student)
        starts = {squash("".join(words[:i])): words[i:] for i in range(len(words), 0, -1)}  # devries before de
        doubtful: list[Person] = []
        for kind, text in [("file", squash(known.student)), ("id", known.id), ("name", squash(known.name)),
                           *((kind, start) for kind in (*TELLING, "name", "last") for start in starts)]:
            found = [self.roster[i] for i in sorted(self._index.get((kind, text), ()))]
            if kind == "last":
                found = [person for person in found if not _names_another(starts[text], person)]
            if len(found) == 1:
                return found
            doubtful = doubtful or found
        return doubtful

    def names(self, records: Iterable[Mapping[str, Any]], revealed: bool = False) -> dict[str, str]:
        """{student: name} of those whose name is known. revealed: behind pseudonyms, too."""
        found: dict[str, str] = {}
        for record in records:
            if self.pseudonyms is None or revealed:
                known, person = self.hand_in(record), self.person(record)
                name = person.name if person else known.name or (known.student if revealed and self.pseudonyms else "")
                found |= {record["student"]: name} if name else {}
        return found

    def absent(self, records: Sequence[Mapping[str, Any]]) -> list[Person]:
        """Those on the roster who have not handed anything in."""
        there = {id(self.person(record)) for record in records}
        return [person for person in self.roster if id(person) not in there]

    def problems(self, records: Sequence[Mapping[str, Any]]) -> list[str]:
        """A line for those who are not in the roster, and one for each who may be several, or is there twice."""
        if not self.roster:
            return []
        strangers: list[str] = []
        several: list[str] = []
        found: dict[int, list[str]] = {}
        for record in records:
            student, who = record["student"], self.candidates(record)
            if len(who) == 1:
                found.setdefault(id(who[0]), []).append(student)
            elif who:
                several.append(f"{student} may be {len(who)} students of the roster, {_told_apart(who)}: give the "
                               f"roster a column 'file' and write {student} in the line of the right one")
            else:
                strangers.append(student)
        some = f"{', '.join(strangers[:5])}{' and others' * (len(strangers) > 5)}"
        return [f"not in the roster: {some}"] * bool(strangers) + several + [
            f"{' and '.join(students)} are the same student in the roster; rename or remove one"
            for students in found.values() if len(students) > 1]

    def keep(self, out: Path) -> None:
        """Write the key of the pseudonyms, if there are any."""
        if self.pseudonyms is not None:
            rows = [[cell(value) for value in (pseudonym, one.student, one.name, one.id)]
                    for pseudonym, one in sorted(self.pseudonyms.items())]
            write(out / KEY, to_csv([["pseudonym", "student", "name", "id"], *rows]))


def load(out: Path, roster: Path | None = None, anonymous: bool = False) -> People:
    """Who the students of `out` are: the roster given, else the one kept there, and the pseudonyms kept there.

    anonymous: start with pseudonyms. Raises TableError.
    """
    path = roster or (out / ROSTER if (out / ROSTER).exists() else None)
    people = read_roster(path) if path else []
    if roster and path and path.resolve() != (out / ROSTER).resolve():
        write(out / ROSTER, spreadsheets.decoded(roster))
    if (out / KEY).exists():
        header, rows = spreadsheets.read(out / KEY)
        if header != ["pseudonym", "student", "name", "id"]:
            raise TableError(f"{out / KEY} is not the key of the pseudonyms; give another folder with --out")
        return People(people, {cells[0]: HandIn(cells[1], cells[2], cells[3])
                               for row in rows for cells in [[plain(row[name]) for name in header]]})
    if anonymous and any((out / "students").glob("*/record.json")):
        raise TableError(f"{out} was graded with names; choose another folder with --out for --anonymous")
    return People(people, {} if anonymous else None)
