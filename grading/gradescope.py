"""A record as Gradescope's results.json: one entry for every row of the rubric, written questions included."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from grading.rubric import Question, Rubric
from grading.submission import Record

Written = Mapping[str, float]
OPEN = "Open: graded by hand from the report."


def points(number: float) -> str:
    return f"{number:g}"


def score(row: Question, record: Record, written: Written) -> float | None:
    """Points of one row; None while it is open, or where it could not be graded."""
    if row.written:
        return written.get(row.number)
    return record["questions"].get(row.number, {}).get("score", 0.0)


def total(rubric: Rubric, record: Record, written: Written) -> float:
    return round(sum(score(row, record, written) or 0.0 for row in rubric.questions), 2)


def common_cause(checks: Sequence[Mapping[str, Any]]) -> str:
    """What is wrong, where it is the same for several checks and there is nothing else; else ''."""
    failed = [check["diagnosis"] for check in checks if check["score"] < check["points"]]
    return failed[0] if len(failed) > 1 and len(set(failed)) == 1 else ""


def check_lines(check: Mapping[str, Any], cause: str = "") -> list[str]:
    """A check as text: points and title, then what is wrong unless it is the cause given above, then the numbers."""
    lines = [f"{points(check['score'])} / {points(check['points'])}  {check['title']}"]
    if check["score"] < check["points"]:
        lines += [f"    {text}" for text in (check["diagnosis"], check["numbers"]) if text and text != cause]
    return lines


def entry(row: Question, record: Record, written: Written) -> dict[str, Any]:
    got = score(row, record, written)
    if row.written:
        output = OPEN if got is None else "Graded by hand from the report."
    else:
        checks = record["questions"].get(row.number, {}).get("checks", [])
        cause = common_cause(checks)
        output = "\n".join([cause] * bool(cause) + [line for check in checks for line in check_lines(check, cause)])
        if got is None:
            output = f"Not graded: {record['questions'][row.number]['ungraded']}."
    status = {} if got is None else {"status": "passed" if got >= row.points else "failed"}
    return {"name": f"{row.number} {row.title}", "number": row.number, "score": got or 0.0, "max_score": row.points,
            **status, "output": output, "visibility": "visible"}


def results(record: Record, rubric: Rubric, written: Written | None = None, comment: str = "") -> dict[str, Any]:
    """The whole file. written, comment: points of the written questions, and what a TA says, once they are graded."""
    written = written or {}
    still_open = [row.number for row in rubric.written if row.number not in written]
    lines = [f"{record['student']}: the submission {record['error']}."] if record["error"] else []
    if comment:
        lines.append(comment)
    if still_open:
        lines.append(f"Graded by hand later: {', '.join(still_open)}.")
    return {"score": total(rubric, record, written), "execution_time": round(record["seconds"]),
            "output": "\n".join(lines), "visibility": "visible", "stdout_visibility": "hidden",
            "tests": [entry(row, record, written) for row in rubric.questions]}
