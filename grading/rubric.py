"""Reads and checks the rubric, a TOML file (`rubric.toml` says what may stand in it)."""

from __future__ import annotations

import hashlib
import json
import math
import tomllib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from grading.replies import Limits

DEFAULT = Path(__file__).parent / "rubric.toml"


class RubricError(Exception):
    """A rubric that cannot be used: one line that names the entry."""


@dataclass(frozen=True)
class Check:
    """One check of a code question. One of 0 points is a remark: students read it, and it costs nothing."""

    id: str
    points: float
    title: str


@dataclass(frozen=True)
class Question:
    """One row of the rubric; `checks` is empty for a written question."""

    number: str
    title: str
    points: float
    written: bool
    bonus: bool
    checks: tuple[Check, ...]


@dataclass(frozen=True)
class Late:
    """What handing in late costs: points_per_day from the day after free_days on, everything after max_days."""

    points_per_day: float
    free_days: float = 0.0
    max_days: float = math.inf

    def deduction(self, days: float, points: float) -> float:
        """Of so many points."""
        cost = points if days > self.max_days else self.points_per_day * max(days - self.free_days, 0)
        return min(cost, max(points, 0.0))


@dataclass(frozen=True)
class Rubric:
    """The whole rubric. `digest` changes with what is checked and how, not with points and titles.

    partial: the most that a check which is passed in part earns, unless its parts are shares. late: None where the
    rubric has no [late].
    """

    title: str
    questions: tuple[Question, ...]
    limits: Limits
    accuracy_seconds: float
    accuracy: Mapping[str, Any]
    digest: str
    partial: float
    late: Late | None = None

    @property
    def code(self) -> list[Question]:
        return [question for question in self.questions if not question.written]

    @property
    def written(self) -> list[Question]:
        return [question for question in self.questions if question.written]


def _number(table: Mapping[str, Any], key: str, where: str, or_zero: bool = False) -> float:
    value = table.get(key)
    if (not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value) or value < 0
            or (value == 0 and not or_zero)):
        raise RubricError(f"{where}: {key} must be a number {'from 0 on' if or_zero else 'above 0'}, not {value!r}")
    return value


def _text(table: Mapping[str, Any], key: str, where: str) -> str:
    value = table.get(key)
    if not isinstance(value, str) or not value:
        raise RubricError(f"{where}: {key} must be a text, not {value!r}")
    return value


def _known(table: Any, keys: Collection[str], where: str) -> Mapping[str, Any]:
    if not isinstance(table, dict):
        raise RubricError(f"{where}: must be a table")
    if unknown := sorted(set(table) - set(keys)):
        raise RubricError(f"{where}: {unknown[0]!r} is not one of {', '.join(keys)}")
    return table


def _question(table: Any, position: int) -> Question:
    where = f"question {position}"
    table = _known(table, ("number", "title", "points", "kind", "bonus", "checks"), where)
    number = _text(table, "number", where)
    where = f"question {number}"
    kind = table.get("kind")
    if kind not in ("code", "written"):
        raise RubricError(f'{where}: kind must be "code" or "written", not {kind!r}')
    entries = table.get("checks", [])
    if not isinstance(entries, list):
        raise RubricError(f"{where}: checks must be a list")
    checks = []
    for entry in entries:
        entry = _known(entry, ("id", "points", "title"), f"{where}, a check")
        name = f"{where}, check {_text(entry, 'id', where)}"
        checks.append(Check(entry["id"], _number(entry, "points", name, or_zero=True), _text(entry, "title", name)))
    points = _number(table, "points", where)
    if kind == "written" and checks:
        raise RubricError(f"{where}: a written question has no checks")
    if kind == "code" and not math.isclose(sum(check.points for check in checks), points):
        added = sum(check.points for check in checks)
        raise RubricError(f"{where}: its checks add up to {added:g} points, not {points:g}")
    if len({check.id for check in checks}) < len(checks):
        raise RubricError(f"{where}: a check is listed twice")
    return Question(number, _text(table, "title", where), points, kind == "written", bool(table.get("bonus")),
                    tuple(checks))


def _late(table: Any) -> Late:
    table = _known(table, [field.name for field in fields(Late)], "late")
    for key in {"points_per_day", *table}:
        _number(table, key, "late", or_zero=key == "free_days")
    if table.get("free_days", 0) > table.get("max_days", math.inf):
        raise RubricError("late: free_days must not be above max_days")
    return Late(**table)


def load(path: Path = DEFAULT) -> Rubric:
    """The rubric in `path`. Raises RubricError."""
    try:
        content = path.read_bytes()
        table = tomllib.loads(content.decode())
    except OSError as error:
        raise RubricError(f"{path} cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise RubricError(f"{path} is not TOML: {error}") from None
    try:
        _known(table, ("title", "partial", "late", "limits", "accuracy", "question"), "the file")
        names = [field.name for field in fields(Limits)]
        limits = _known(table.get("limits", {}), (*names, "accuracy_seconds"), "limits")
        values: dict[str, Any] = {name: _number(limits, name, "limits") for name in limits}
        questions = tuple(_question(entry, i) for i, entry in enumerate(table.get("question", []), 1))
        if not questions:
            raise RubricError("there is no [[question]]")
        if len({question.number for question in questions}) < len(questions):
            raise RubricError("a question's number stands twice")
        accuracy_seconds = values.pop("accuracy_seconds", 400)
        accuracy = _known(table.get("accuracy", {}), [q.number for q in questions], "accuracy")
        for number, kinds in accuracy.items():
            for kind, bounds in _known(kinds, ("real", "standin"), f"accuracy {number}").items():
                bounds = _known(bounds, ("full", "none"), f"accuracy {number} {kind}")
                if _number(bounds, "none", f"accuracy {number}") >= _number(bounds, "full", f"accuracy {number}"):
                    raise RubricError(f"accuracy {number} {kind}: none must be below full")
        ids = {question.number: [check.id for check in question.checks] for question in questions if question.checks}
        graded_by = json.dumps([ids, limits, accuracy_seconds, accuracy], sort_keys=True)
        return Rubric(_text(table, "title", "the file"), questions,
                      Limits(**{k: v if "seconds" in k else int(v) for k, v in values.items()}), accuracy_seconds,
                      accuracy, hashlib.sha256(graded_by.encode()).hexdigest()[:16],
                      _number({"partial": 1.0, **table}, "partial", "the file"),
                      _late(table["late"]) if "late" in table else None)
    except RubricError as error:
        raise RubricError(f"{path}: {error}") from None
