"""The code questions by number: what the grader and `--check` know how to look at."""

from __future__ import annotations

from grading import checks_1_2, checks_2_1, checks_3, checks_4a
from grading.checks import Question

QUESTIONS: dict[str, Question] = {question.number: question for question in (
    checks_1_2.QUESTION, checks_2_1.QUESTION, checks_3.AUTOGRAD, checks_3.FUNCTION, checks_3.MODULE,
    checks_4a.QUESTION)}
