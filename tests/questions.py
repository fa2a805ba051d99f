"""Pytest's part in a question's tests: `pytest -m q1_1a` imports and runs those of that question and no others.

A test that carries a question's mark fails in a few lines: where, in the test and in the code under test, and expected
against received, without the frames of helpers and libraries. At the end, what the grader says of the same code.
"""

import re
from pathlib import Path

import pytest
from hypothesis import Phase, settings

ROOT = Path(__file__).resolve().parent.parent
MOST_LINES = 14

# One failing example is enough, and as short as it gets; further examples do not help here.
settings.register_profile("questions", report_multiple_bugs=False, phases=[p for p in Phase if p is not Phase.explain])
settings.load_profile("questions")


def is_question(mark: str) -> bool:
    return re.fullmatch(r"q\d\w*", mark) is not None


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """With `-m` and a question, files without its mark are not imported: they may be of questions still to come."""
    mark = config.option.markexpr
    if is_question(mark) and collection_path.match("test_*.py"):
        return True if f"mark.{mark}" not in collection_path.read_text(encoding="utf-8") else None
    return None


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo):
    report = yield
    if report.when == "call" and report.failed and call.excinfo and any(map(is_question, report.keywords)):
        report.longrepr = short(call.excinfo, item.path)
    return report


def short(raised: pytest.ExceptionInfo, test: Path) -> str:
    """The last line of the test and the lines of the package below it, then what is wrong."""
    places = []
    for entry in raised.traceback:
        path = Path(str(entry.path))
        if path == test:
            places.clear()
        if path == test or (path.is_relative_to(ROOT) and not path.is_relative_to(ROOT / "tests")
                            and "site-packages" not in path.parts):
            line = str(entry.statement).strip().splitlines()[0]
            places.append(f"{path.relative_to(ROOT).as_posix()}:{entry.lineno + 1}: {line}")
    text = str(raised.value).partition("\n ACTUAL: ")[0].replace("(ACTUAL)", "received").replace("(DESIRED)", "expected")
    if not isinstance(raised.value, AssertionError) or not text.strip():
        text = f"{raised.typename}: {text}"
    lines = [line for line in text.splitlines() if line.strip()]
    cut = [f"... {len(lines) - MOST_LINES} more lines"] if len(lines) > MOST_LINES else []
    return "\n".join([*places, *(f"    {line}" for line in lines[:MOST_LINES] + cut)])


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What the grader's checks say of the code whose tests failed."""
    try:
        from grading import home
        from grading.home import PYTEST_MARKS
    except ImportError:  # a hand-in's copy of the tests comes without the grader
        return
    failed = {mark for report in terminalreporter.stats.get("failed", []) for mark in report.keywords if mark in PYTEST_MARKS}
    for number in sorted({PYTEST_MARKS[mark][0] for mark in failed}):
        starts = tuple(start for mark in failed if PYTEST_MARKS[mark][0] == number for start in PYTEST_MARKS[mark][1])
        terminalreporter.section(f"what the grader says (python grade.py --check {number})")
        try:
            said = home.sentences(ROOT, number, starts)
        except home.HomeError as error:
            said = [str(error)]
        for line in said or ["nothing: its checks pass. What failed above asks for more than the assignment does."]:
            terminalreporter.write_line(line)
