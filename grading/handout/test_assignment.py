"""The checks as pytest's tests: `pytest -m q1_1a` for those of one question, `pytest` for all.

They say what `python grade.py --check` says. The training scripts are run by that command alone.
"""

from pathlib import Path

import pytest

from grading.home import PYTEST_MARKS, HomeError, sentences


@pytest.mark.parametrize("mark", [pytest.param(mark, marks=getattr(pytest.mark, mark)) for mark in PYTEST_MARKS])
def test_question(mark):
    number, starts = PYTEST_MARKS[mark]
    try:
        found = sentences(Path(__file__).parent, number)
    except HomeError as error:
        pytest.skip(str(error))
    wrong = [line for name, lines in found.items() if name.startswith(starts) for line in lines]
    if wrong:
        pytest.fail("\n".join(wrong), pytrace=False)
