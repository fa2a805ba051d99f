"""Gradebooks to import: canvas.csv and brightspace.csv, a row for each student whose id there is known."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from grading.files import alphabetical, write
from grading.marks import Marks, points
from grading.people import People, Person
from grading.spreadsheets import cell, to_csv

CANVAS, BRIGHTSPACE = "canvas.csv", "brightspace.csv"
IDS = {CANVAS: ("id", "number", "login"), BRIGHTSPACE: ("number", "login")}  # one is needed to import a row


@dataclass(frozen=True)
class Line:
    """A student of a gradebook with their total, '' where there is none."""

    person: Person
    total: str


def lines(marks: Sequence[Marks], people: People) -> list[Line]:
    """By name. One who has two submissions, which the TA is told of, has no total."""
    found: dict[Person, list[Marks]] = {person: [] for person in people.roster}
    for one in marks:
        known = people.hand_in(one.record)
        found.setdefault(people.person(one.record) or Person(known.name or known.student, id=known.id), []).append(one)
    rows = []
    for person, theirs in found.items():
        ids = [number for one in theirs if (number := people.hand_in(one.record).id)]
        rows.append(Line(replace(person, id=person.id or "".join(ids[:1])),
                         points(theirs[0].total) if len(theirs) == 1 else ""))
    return sorted(rows, key=lambda line: alphabetical(sortable(line.person)))


def sortable(person: Person) -> str:
    """`Doe, Jane`, as Canvas writes names."""
    if not person.last:
        return person.name
    return f"{person.last}, {person.first or person.name.removesuffix(person.last).strip()}"


def canvas(lines: Sequence[Line], assignment: str, most: float) -> str:
    """Canvas matches students by ID, SIS User ID or SIS Login ID; the assignment by the number in its parentheses."""
    header = ["Student", "ID", "SIS User ID", "SIS Login ID", "Section", assignment]
    rows = [[sortable(one), one.id, one.number, one.login, one.section, line.total]
            for line in lines for one in [line.person]]
    return to_csv([header, ["    Points Possible", "", "", "", "", points(most)],
                   *([cell(value) for value in row] for row in rows)])


def brightspace(lines: Sequence[Line], assignment: str) -> str:
    """Brightspace matches students by OrgDefinedId and Username, and takes rows that end in '#' alone."""
    item = re.sub(r" *\(\d+\)$", "", assignment).replace(",", "")
    rows = [[one.number and f"#{one.number}", one.login and f"#{one.login}", one.last, one.first, line.total, "#"]
            for line in lines for one in [line.person]]
    header = ["OrgDefinedId", "Username", "Last Name", "First Name", f"{item} Points Grade", "End-of-Line Indicator"]
    return to_csv([header, *([cell(value) for value in row] for row in rows)])


def write_gradebooks(out: Path, marks: Sequence[Marks], people: People, assignment: str,
                     most: float) -> tuple[list[Path], list[str]]:
    """(the gradebooks written, a line for each student left out of one). One that would have no row is not written."""
    table = lines(marks, people)
    books, notes = [], []
    for name, ids in IDS.items():
        known = [line for line in table if any(getattr(line.person, kind) for kind in ids)]
        if not known:
            (out / name).unlink(missing_ok=True)  # of an earlier merge
            continue
        write(out / name, canvas(known, assignment, most) if name == CANVAS else brightspace(known, assignment))
        books.append(out / name)
        notes += [f"{line.person.name} is left out of {name}, without an id to import them by: add them to the roster"
                  for line in table if line not in known]
    return books, notes
