"""A student's marks as a page: what is right, what is wrong, the numbers, and what is still open."""

from __future__ import annotations

from grading.marks import Marks
from grading.page import render


def feedback(marks: Marks, name: str = "") -> str:
    """The page. name: the student's, where the tables call them by something else."""
    rubric, given = marks.rubric, marks.given
    graded = [row for row in rubric.written if row.number in given.points]
    has_bonus = any(given.points[row.number] for row in graded if row.bonus)
    return render(
        "feedback.html", marks=marks, name=name or marks.record["student"], title=rubric.title,
        error=marks.record["error"], code_points=sum(row.points for row in rubric.code),
        graded=graded, graded_points=sum(row.points for row in graded if not row.bonus),
        all_points=sum(row.points for row in rubric.questions if not row.bonus),
        bonus=", bonus included" if has_bonus else "")
