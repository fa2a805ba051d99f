"""The code questions by number: what the grader and `--check` know how to look at.

This is the place to add one (docs/grading-another-course.md): a `Question` in a checks_*.py, named in the table below.
Its probes are found in grading/worker/probes_*.py, its points and titles in the rubric.
"""

from __future__ import annotations

from grading import checks_1_2, checks_2_1, checks_3, checks_4a
from grading.checks import Question
from grading.rubric import Rubric

QUESTIONS: dict[str, Question] = {question.number: question for question in (
    checks_1_2.QUESTION, checks_2_1.QUESTION, checks_3.AUTOGRAD, checks_3.FUNCTION, checks_3.MODULE,
    checks_4a.QUESTION)}

FILES = tuple(dict.fromkeys(name for question in QUESTIONS.values() for name in question.files))  # handed in for them


def files_of(rubric: Rubric) -> list[str]:
    """The files that are handed in for the questions of a rubric."""
    asked = {name for row in rubric.code for name in QUESTIONS[row.number].files}
    return [name for name in FILES if name in asked]
