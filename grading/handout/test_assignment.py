"""The checks as pytest's tests: `pytest -m q1_1a` for those of one question, `pytest` for all.

They say what `python grade.py --check` says. The training scripts are run by that command alone.
"""

from pathlib import Path

import pytest

from grading.home import PYTEST_MARKS, HomeError, sentences


@pytest.mark.parametrize("mark", [pytest.param(mark, marks=getattr(pytest.mark, mark)) for mark in PYTEST_MARKS])
def test_question(mark):
    try:
        wrong = sentences(Path(__file__).parent, *PYTEST_MARKS[mark])
    except HomeError as error:
        pytest.skip(str(error))
    if wrong:
        pytest.fail("\n".join(wrong), pytrace=False)
