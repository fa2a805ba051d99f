"""Whose points changed since the last run, and why: the submission, the grader, the rubric or the data.

What was last reported is kept as `reported.json` beside the tables. Each run compares what it reports with that and
adds what differs to changes.csv.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, fields
from datetime import datetime
from pathlib import Path
from typing import Any

from grading.files import alphabetical, write, write_json
from grading.marks import points
from grading.spreadsheets import TableError, cell, decoded, to_csv
from grading.submission import Record

REPORTED, CHANGES = "reported.json", "changes.csv"
PARTS = ("the grader changed", "the rubric changed", "the data changed")  # of a question's version, in its order

NOTHING: Mapping[str, Any] = {"version": "", "ungraded": "", "checks": {}}

Check = Mapping[str, Any]
Report = Mapping[str, Mapping[str, Any]]  # {student: {"submission", "questions": {number: {"version", "checks"}}}}


@dataclass(frozen=True)
class Change:
    """A check's points before and after, as people write them: '' where it was not graded, or was not there."""

    student: str
    question: str
    check: str
    before: str
    after: str
    reason: str
    diagnosis: str

    def line(self) -> str:
        return (f"{self.student} {self.question} {self.check}: {self.before or 'nothing'} -> {self.after or 'nothing'} "
                f"({self.reason})" + f": {self.diagnosis}" * bool(self.diagnosis))


def reported(records: Sequence[Record]) -> Report:
    """What is kept of scored records."""
    return {record["student"]: {"submission": record.get("submission", ""), "questions": {
        number: {"version": question.get("version", ""), "ungraded": question.get("ungraded", ""), "checks": {
            check["id"]: {key: check[key] for key in ("title", "fraction", "points", "score", "diagnosis")}
            for check in question["checks"]}}
        for number, question in record["questions"].items()}} for record in records}


def changes(before: Report, after: Report) -> list[Change]:
    """What differs between two reports, of the students that both have."""
    return [change for student in sorted(before.keys() & after.keys(), key=alphabetical)
            for number in dict.fromkeys([*after[student]["questions"], *before[student]["questions"]])
            for change in _of_question(student, number, before[student], after[student])]


def _of_question(student: str, number: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Change]:
    old, new = (report["questions"].get(number, NOTHING) for report in (before, after))
    found = []
    for check in dict.fromkeys([*new["checks"], *old["checks"]]):
        was, now = old["checks"].get(check), new["checks"].get(check)
        one, other = _score(old, was), _score(new, now)
        remark = not any(side["points"] for side in (was, now) if side)
        if one == other or remark:
            continue
        reasons = ["a new submission"] * (before["submission"] != after["submission"]) + _reasons(old, new, was, now)
        found.append(Change(student, number, (now or was)["title"], points(one), points(other),
                            "; ".join(reasons) or "graded again", _diagnosis(old, new, was, now)))
    return found


def _score(question: Mapping[str, Any], check: Check | None) -> float | None:
    return None if check is None or question["ungraded"] else check["score"]


def _reasons(old: Mapping[str, Any], new: Mapping[str, Any], was: Check | None, now: Check | None) -> list[str]:
    """What of grader, rubric and data changed a check's points."""
    if not (was and now):
        return ["the rubric has other checks"]
    worth = ["the rubric's points changed"] * (was["points"] != now["points"])
    if was["fraction"] == now["fraction"] and old["ungraded"] == new["ungraded"]:
        return worth or ["the rubric's points for what is right in part changed"]
    parts = zip(PARTS, old["version"].split(" "), new["version"].split(" "), strict=False)
    return [part for part, one, other in parts if one and other and one != other] + worth


def _diagnosis(old: Mapping[str, Any], new: Mapping[str, Any], was: Check | None, now: Check | None) -> str:
    """What is wrong now, or was before."""
    for question, word in ((new, "now"), (old, "before")):
        if question["ungraded"]:
            return f"not graded {word}: {question['ungraded']}"
    if now and now["diagnosis"]:
        return now["diagnosis"]
    return f"before: {was['diagnosis']}" if was and was["diagnosis"] else ""


def update(out: Path, records: Sequence[Record]) -> list[Change]:
    """Note what changed since the last run into `out`; returns that."""
    after = reported(records)
    before: Report = {}
    found = []
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError):  # none yet, or a damaged one
        before = json.loads((out / REPORTED).read_text(encoding="utf-8"))
        found = changes(before, after)
    if found:
        header = ["when", *(field.name for field in fields(Change))]
        try:
            log = decoded(out / CHANGES)
        except TableError:  # there is none yet
            log = to_csv([header])
        when = datetime.now().isoformat(" ", "seconds")
        write(out / CHANGES, log + to_csv([[when, *map(cell, astuple(change))] for change in found]))
    if before != after:
        write_json(out / REPORTED, after)
    return found
