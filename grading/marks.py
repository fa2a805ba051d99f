"""What a student has for each question, from the checks and from what a TA gave; every page and table reads it here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from grading.compare import told_once
from grading.rubric import Question, Rubric
from grading.submission import NOT_YET, Record

OPEN = "Open: graded by hand from the report."
BY_HAND = "Graded by hand from the report."
NO_BONUS = "No bonus points."


def points(number: float | None) -> str:
    """A number of points as people write it, '' for None."""
    return "" if number is None else f"{round(number, 2):g}"


@dataclass(frozen=True)
class Given:
    """What a TA filled in for one student: a line of written.csv.

    points: by question, code questions (an override) included. comments: by question. comment: on the whole.
    """

    points: Mapping[str, float] = field(default_factory=dict)
    comments: Mapping[str, str] = field(default_factory=dict)
    comment: str = ""
    late_days: int = 0


NOTHING = Given()


@dataclass(frozen=True)
class Mark:
    """One question of one student.

    score: None while it is open, and where it could not be graded. note: how it was graded, or why it was not; ''
    where the checks say it all. comment: a TA's.
    """

    question: Question
    score: float | None
    note: str
    checks: Sequence[Mapping[str, Any]]
    comment: str

    @property
    def overridden(self) -> bool:
        """Whether a TA's points override the checks'."""
        return not self.question.written and self.score is not None and bool(self.note)

    @property
    def cause(self) -> str:
        """What is wrong, where it is the same for several checks and there is nothing else; else ''."""
        failed = [check["diagnosis"] for check in self.checks if check["score"] < check["points"]]
        return failed[0] if len(failed) > 1 and len(set(failed)) == 1 else ""

    @property
    def shown(self) -> list[Mapping[str, Any]]:
        """The checks that a student reads: a remark (of 0 points) only where it found something."""
        return [check for check in self.checks if check["points"] or is_remark(check)]


def is_remark(check: Mapping[str, Any]) -> bool:
    """Whether the check costs nothing and has found something."""
    return not check["points"] and check["fraction"] < 1


def is_unjudged(check: Mapping[str, Any]) -> bool:
    """Whether the check has its points without having been judged, since another fault decides it."""
    return check["fraction"] >= 1 and bool(check["diagnosis"])


def mark(row: Question, record: Record, given: Given) -> Mark:
    comment = given.comments.get(row.number, "")
    by_hand = given.points.get(row.number)
    if row.written:
        note = OPEN if by_hand is None else NO_BONUS if row.bonus and not by_hand else BY_HAND
        return Mark(row, by_hand, note, [], comment)
    question = record["questions"].get(row.number, {"checks": [], "score": 0.0})
    reason = question.get("ungraded", "")
    ungraded = "Not graded yet." if reason == NOT_YET else f"Not graded: {reason}." if reason else ""
    remark = [{"id": "imports", "title": "Surroundings", "points": 0, "score": 0, "fraction": 0.0, "numbers": "",
               "diagnosis": question["remark"]}] if question.get("remark") else []
    told: dict[Any, str] = {}
    checks = [] if ungraded else [check | {"diagnosis": told_once(told, check["title"], check["diagnosis"])}
                                  for check in question["checks"] + remark]
    if by_hand is None:
        return Mark(row, question["score"], ungraded, checks, comment)
    automatic = ungraded or f"The checks gave {points(question['score'])} / {points(row.points)}."
    return Mark(row, by_hand, "Set by hand." if reason == NOT_YET else f"Set by hand. {automatic}", checks, comment)


class Marks:
    """All that a student has, question by question and added up."""

    def __init__(self, record: Record, rubric: Rubric, given: Given = NOTHING):
        self.record, self.rubric, self.given = record, rubric, given
        self.rows = [mark(row, record, given) for row in rubric.questions]

    @property
    def open(self) -> list[str]:
        """Questions without points, of those that everybody has; a written bonus is not one."""
        return [row.question.number for row in self.rows
                if row.score is None and not (row.question.bonus and row.question.written)]

    @property
    def by_hand_later(self) -> list[str]:
        """Written questions that nobody has given points for, such as '4b (bonus)'."""
        return [row.question.number + " (bonus)" * row.question.bonus for row in self.rows
                if row.question.written and row.score is None]

    @property
    def code(self) -> float | None:
        """Points of the code questions; None where one of them has none."""
        rows = [row for row in self.rows if not row.question.written]
        return None if any(row.score is None for row in rows) else _sum(rows)

    @property
    def written(self) -> float:
        """Points of the written questions, as far as they are graded."""
        return _sum([row for row in self.rows if row.question.written])

    @property
    def deduction(self) -> float:
        """What being late costs."""
        late = self.rubric.late
        return late.deduction(self.given.late_days, _sum(self.rows)) if late else 0.0

    @property
    def late(self) -> str:
        """The line that says what being late costs, '' where nobody was."""
        days = self.given.late_days
        lost = f"-{points(self.deduction)} points" if self.deduction else "no deduction"
        return f"{days} day{'s' * (days != 1)} late: {lost}" if days else ""

    @property
    def so_far(self) -> float:
        """Points of what is graded, less what being late costs."""
        return round(_sum(self.rows) - self.deduction, 2)

    @property
    def total(self) -> float | None:
        """All points, None while a question has none."""
        return None if self.open else self.so_far

    @property
    def state(self) -> str:
        """In a few words whether the submission was graded."""
        if self.record["error"]:
            return f"not graded: {self.record['error']}"
        numbers: dict[str, list[str]] = {}
        for row in self.rows:
            if not row.question.written and row.score is None:
                reason = self.record["questions"][row.question.number]["ungraded"]
                numbers.setdefault(reason, []).append(row.question.number)
        missing = [f"{', '.join(found)} ({reason})" for reason, found in numbers.items()]
        return f"partly ungraded: {', '.join(missing)}" if missing else "graded"

    @property
    def waiting(self) -> list[str]:
        """Code questions that were not graded yet and have no points by hand."""
        return [row.question.number for row in self.rows if row.score is None
                and self.record["questions"].get(row.question.number, {}).get("ungraded") == NOT_YET]

    @property
    def data(self) -> str:
        """What accuracy was measured on; '' where it was not measured."""
        measured = any(check["id"] == "accuracy" for row in self.rows for check in row.checks)
        return self.record.get("data", "") if measured and not self.record["error"] else ""

    @property
    def flags(self) -> list[str]:
        """What a TA should look at, the state included where it is not plain."""
        return [self.state] * (self.state != "graded") + self.record["flags"]


def _sum(rows: Sequence[Mark]) -> float:
    return round(sum(row.score or 0.0 for row in rows), 2)
