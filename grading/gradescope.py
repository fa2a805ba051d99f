"""A student's marks as Gradescope's results.json: one entry for every question, written questions included."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from grading.marks import Mark, Marks, is_remark, points


def check_lines(check: Mapping[str, Any], cause: str = "") -> list[str]:
    """A check as text: points and title, then what is wrong, or why it was not judged, and the numbers."""
    remark = is_remark(check)
    lines = ["remark" if remark else f"{points(check['score'])} / {points(check['points'])}"]
    lines[0] += f"  {check['title']}"
    said = [check["diagnosis"], check["numbers"] if remark or check["score"] < check["points"] else ""]
    lines += [f"    {text}" for text in said if text and text != cause]
    return lines


def entry(mark: Mark) -> dict[str, Any]:
    """One test. A question that could not be graded has no score, which is not a score of 0."""
    row, got = mark.question, mark.score
    lines = [text for text in (mark.note, mark.comment, mark.cause) if text]
    lines += [line for check in mark.shown for line in check_lines(check, mark.cause)]
    made: dict[str, Any] = {"name": f"{row.number} {row.title}", "number": row.number, "max_score": row.points,
                            "output": "\n".join(lines), "visibility": "visible"}
    if got is not None:
        made |= {"score": got, "status": "passed" if got >= row.points else "failed"}
    elif row.written:
        made["score"] = 0.0  # so that the points to come are seen
    return made


def results(marks: Marks) -> dict[str, Any]:
    """The whole file."""
    record = marks.record
    lines = [f"{record['student']}: the submission {record['error']}."] if record["error"] else []
    lines += [line for line in (marks.given.comment, marks.late) if line]
    if marks.by_hand_later:
        lines.append(f"Graded by hand later: {', '.join(marks.by_hand_later)}.")
    return {"score": marks.so_far, "execution_time": round(record["seconds"]),
            "output": "\n".join(lines), "visibility": "visible", "stdout_visibility": "hidden",
            "tests": [entry(row) for row in marks.rows]}
