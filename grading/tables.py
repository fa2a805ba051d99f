"""The class's tables: grades.csv, written.csv for the TA to fill in, and final.csv from both."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from grading.files import alphabetical, folder_name, write
from grading.gradescope import Written, score, total
from grading.rubric import Rubric
from grading.submission import Record

GRADES, WRITTEN, FINAL = "grades.csv", "written.csv", "final.csv"


class TableError(Exception):
    """A table that cannot be used: one line that names row and column, and the way out."""


def cell(value: object) -> str:
    """A cell that no spreadsheet takes for a formula."""
    text = " ".join(str(value).encode("utf-8", "replace").decode().split())
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "'")) and not _is_number(text) else text


def plain(text: str) -> str:
    """A cell as it was before `cell`."""
    text = text.strip()
    return text[1:] if text.startswith(("'=", "'+", "'-", "'@", "''")) else text


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:g}"


def to_csv(rows: Sequence[Sequence[object]]) -> str:
    out = io.StringIO(newline="")
    csv.writer(out, lineterminator="\n").writerows(rows)
    return out.getvalue()


def grade_rows(records: Sequence[Record], rubric: Rubric, written: Mapping[str, Written] | None = None,
               complete: bool = False) -> list[list[str]]:
    """Header and a row a student. complete: leave the total empty while a written question is open."""
    rows = [["student", *(row.number for row in rubric.questions), "total" if complete else "code", "flags", "seconds",
             "feedback"]]
    for record in records:
        by_hand = (written or {}).get(record["student"], {})
        scores = [score(row, record, by_hand) for row in rubric.questions]
        is_open = complete and any(value is None for value in scores)
        flags = ([f"not graded: {record['error']}"] if record["error"] else []) + record["flags"]
        rows.append([cell(record["student"]), *(_number(value) for value in scores),
                     "" if is_open else _number(total(rubric, record, by_hand)), cell("; ".join(flags)),
                     f"{record['seconds']:.1f}", cell(f"students/{folder_name(record['student'])}/feedback.html")])
    return rows


def write_grades(out: Path, records: Sequence[Record], rubric: Rubric) -> None:
    write(out / GRADES, to_csv(grade_rows(records, rubric)))


def write_form(out: Path, records: Sequence[Record], rubric: Rubric) -> None:
    """written.csv with an empty cell for each written question; what a TA has filled in already is kept."""
    path = out / WRITTEN
    columns = [row.number for row in rubric.written]
    header, rows = ["student", *columns, "comment"], {}
    if path.exists():
        old_header, old_rows = read(path)
        header = old_header + [name for name in header if name not in old_header]
        rows = {plain(row["student"]): row for row in old_rows}
    for record in records:
        rows.setdefault(record["student"], {"student": cell(record["student"])})
    ordered = [rows[student] for student in sorted(rows, key=alphabetical)]
    content = to_csv([header, *([row.get(name, "") for name in header] for row in ordered)])
    if not path.exists() or path.read_text(encoding="utf-8-sig") != content:
        write(path, content)


def read(path: Path) -> tuple[list[str], list[dict[str, str]]]:
    """Header and rows of a CSV file; ';' separates where a spreadsheet wrote it so."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise TableError(f"{path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise TableError(f"{path} is not UTF-8 text; save it as CSV (UTF-8)") from None
    first = text.partition("\n")[0]
    try:
        separator = ";" if ";" in first and "," not in first else ","
        lines = list(csv.reader(io.StringIO(text), delimiter=separator, strict=True))
    except csv.Error as error:
        raise TableError(f"{path} is not CSV: {error}") from None
    if not lines or "student" not in (header := [name.strip() for name in lines[0]]):
        raise TableError(f"{path} has no column 'student' in its first line; start from {WRITTEN}")
    if len(set(header)) < len(header):
        raise TableError(f"{path} has a column twice: {next(name for name in header if header.count(name) > 1)!r}")
    rows = []
    for number, line in enumerate(lines[1:], 2):
        if not any(value.strip() for value in line):
            continue
        if len(line) > len(header):
            raise TableError(f"{path}, line {number}: {len(line)} cells, but the first line has {len(header)}")
        rows.append(dict(zip(header, [*line, *[""] * (len(header) - len(line))], strict=True)))
    return header, rows


def read_written(path: Path, records: Sequence[Record], rubric: Rubric) -> dict[str, dict[str, float]]:
    """Points of the written questions by student; empty cells are left out. Raises TableError."""
    header, rows = read(path)
    most = {row.number: row.points for row in rubric.written}
    for name in header:
        if name not in most and name not in ("student", "comment"):
            raise TableError(f"{path} has a column {name!r}; columns are student, {', '.join(most)}, comment")
    students = {record["student"] for record in records}
    written: dict[str, dict[str, float]] = {}
    for row in rows:
        student = plain(row["student"])
        if student not in students:
            raise TableError(f"{path} names {student!r}, of whom nothing was graded; names are those in {GRADES}")
        if student in written:
            raise TableError(f"{path} names {student!r} twice; keep one line")
        written[student] = {}
        for number, points in most.items():
            value = row.get(number, "").strip().replace(",", ".")
            if not value:
                continue
            if not _is_number(value) or not 0 <= float(value) <= points:
                raise TableError(f"{path}, {student}, question {number}: {value!r} is not a number from 0 to "
                                 f"{points:g}")
            written[student][number] = float(value)
    for student in students - set(written):
        written[student] = {}
    for given in written.values():  # a bonus that nobody graded is no open question
        for question in rubric.written:
            if question.bonus:
                given.setdefault(question.number, 0.0)
    return written


def comments(path: Path) -> dict[str, str]:
    """{student: what a TA wrote in the column `comment`}."""
    return {plain(row["student"]): row.get("comment", "").strip() for row in read(path)[1]}


def open_questions(written: Mapping[str, Written], rubric: Rubric) -> dict[str, list[str]]:
    """{student: written questions without points}, of those who have any."""
    found = {student: [row.number for row in rubric.written if row.number not in given]
             for student, given in sorted(written.items())}
    return {student: numbers for student, numbers in found.items() if numbers}


def write_final(out: Path, records: Sequence[Record], rubric: Rubric, written: Mapping[str, Written]) -> None:
    write(out / FINAL, to_csv(grade_rows(records, rubric, written, complete=True)))
