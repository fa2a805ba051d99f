"""The class's tables: grades.csv, written.csv for the TA to fill in, and final.csv from both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from grading import spreadsheets
from grading.files import alphabetical, folder_name, write
from grading.marks import NOTHING, Given, Marks, points
from grading.rubric import Rubric
from grading.spreadsheets import Row, TableError, cell, decoded, layout, number, plain, same, to_csv
from grading.submission import Record

GRADES, WRITTEN, FINAL = "grades.csv", "written.csv", "final.csv"
LATE, COMMENT = "late_days", "comment"


def comment_of(question: str) -> str:
    """The column of a comment on a question."""
    return f"{question} {COMMENT}"


def form_columns(rubric: Rubric) -> list[str]:
    """What a TA may fill in, after the student."""
    numbers = [row.number for row in rubric.questions]
    return [*numbers, LATE, COMMENT, *map(comment_of, numbers)]


def own_columns(header: Sequence[str], rubric: Rubric) -> list[str]:
    """Columns that a TA added to the form; they are not read."""
    return [name for name in header if name not in ("student", "name", *form_columns(rubric))]


def _rows(marks: Sequence[Marks], rubric: Rubric, last: Sequence[str], names: Mapping[str, str],
          added: Mapping[str, Sequence[str]]) -> list[list[str]]:
    """Header and a row a student: name where any is known, points, `added` under the header `last`, and the rest."""
    rows = [["student", *["name"] * bool(names), *(row.number for row in rubric.questions), *last, "flags", "seconds",
             "feedback"]]
    for one in marks:
        student = one.record["student"]
        rows.append([cell(student), *[cell(names.get(student, ""))] * bool(names),
                     *(points(row.score) for row in one.rows), *added[student],
                     cell("; ".join(one.flags)), f"{one.record['seconds']:.1f}",
                     cell(f"students/{folder_name(student)}/feedback.html")])
    return rows


def write_grades(out: Path, records: Sequence[Record], rubric: Rubric, names: Mapping[str, str] | None = None) -> None:
    """What the checks gave. names: by student, where they are known."""
    marks = [Marks(record, rubric) for record in records]
    added = {one.record["student"]: [points(one.code)] for one in marks}
    write(out / GRADES, to_csv(_rows(marks, rubric, ["code"], names or {}, added)))


def write_final(out: Path, marks: Sequence[Marks], rubric: Rubric, names: Mapping[str, str] | None = None) -> None:
    """Checks and TA together; the total is empty while a question has no points."""
    last = [LATE, "deduction", "total"] if rubric.late else ["total"]
    added = {one.record["student"]: [str(one.given.late_days), points(one.deduction), points(one.total)][-len(last):]
             for one in marks}
    write(out / FINAL, to_csv(_rows(marks, rubric, last, names or {}, added)))


def write_form(out: Path, records: Sequence[Record], rubric: Rubric) -> None:
    """written.csv with empty cells for a TA to fill in. What is filled in stays, and so does the way it is saved."""
    path = out / WRITTEN
    old_header, old_rows = read(path) if path.exists() else ([], [])
    header = [*old_header, *(name for name in ["student", *form_columns(rubric)] if name not in old_header)]
    rows = {same(plain(row["student"])): row for row in old_rows}
    new = {name: Row(student=cell(record["student"])) for record in records
           if (name := same(record["student"])) not in rows}
    if not new and header == old_header:
        return
    ordered = [(rows | new)[student] for student in sorted(rows | new, key=alphabetical)]
    separator, said = layout(decoded(path)) if path.exists() else (",", "")
    write(path, said + to_csv([header, *([row.get(name, "") for name in header] for row in ordered)], separator))


def read(path: Path) -> tuple[list[str], list[Row]]:
    """Header and rows of a table of students. Raises TableError."""
    header, rows = spreadsheets.read(path)
    if "student" not in header:
        raise TableError(f"{path} has no column 'student' in its first line; start from {WRITTEN}")
    return header, rows


def _cell_number(row: Row, column: str, most: float, where: str) -> float | None:
    """A number from 0 to `most`, None for an empty cell."""
    text = same(row.get(column, ""))
    value = number(text)
    if text and (value is None or not 0 <= value <= most):
        raise TableError(f"{where}: {text!r} is not a number from 0 to {most:g}; write it like 7 or 7.5, or leave the "
                         "cell empty")
    return value


def _given(row: Row, rubric: Rubric, where: str) -> Given:
    """A TA's line."""
    found = {question.number: _cell_number(row, question.number, question.points,
                                           f"{where}, question {question.number}") for question in rubric.questions}
    comments = {question.number: plain(row.get(comment_of(question.number), "")) for question in rubric.questions}
    days = _cell_number(row, LATE, 366, f"{where}, {LATE}") or 0.0
    if days != int(days):
        raise TableError(f"{where}, {LATE}: {days:g} is not a whole number of days; a day that has begun counts")
    if days and not rubric.late:
        raise TableError(f"{where}, {LATE}: the rubric does not say what a late day costs; give it a section [late], "
                         "with points_per_day, or empty the column")
    return Given({name: value for name, value in found.items() if value is not None},
                 {name: text for name, text in comments.items() if text}, plain(row.get(COMMENT, "")), int(days))


def read_written(path: Path, records: Sequence[Record], rubric: Rubric) -> dict[str, Given]:
    """What a TA gave, by student; a bonus that nobody graded counts 0. Raises TableError."""
    header, rows = read(path)
    own = own_columns(header, rubric)
    if own and not {*form_columns(rubric)} <= {*header}:  # one of the form may be under another name
        numbers = [question.number for question in rubric.questions]
        raise TableError(f"{path} has a column {own[0]!r}; columns are student, {', '.join(numbers)}, {LATE}, "
                         f"{COMMENT} and for each question one like '{comment_of(numbers[0])}' (a spreadsheet may "
                         "make dates of numbers: have it read the first line as text)")
    students = {same(record["student"]): record["student"] for record in records}
    given: dict[str, Given] = {}
    for row in rows:
        name = same(plain(row["student"]))
        if name not in students:
            raise TableError(f"{path}, line {row.line}, names {name!r}, of whom nothing was graded; names are those in "
                             f"{GRADES}")
        if students[name] in given:
            raise TableError(f"{path}, line {row.line}, names {name!r} twice; keep one line")
        given[students[name]] = _given(row, rubric, f"{path}, line {row.line}, {name}")
    bonus = {row.number: 0.0 for row in rubric.written if row.bonus}
    return {student: Given(bonus | dict(one.points), one.comments, one.comment, one.late_days)
            for student in students.values() for one in [given.get(student, NOTHING)]}
