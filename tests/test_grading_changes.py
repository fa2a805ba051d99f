"""A rerun says whose points changed and why."""

import csv
import dataclasses
import json

import pytest
from grading_help import MODULES, needs_confinement, reduced, submission

from grading import rubric
from grading import submission as submissions
from grading.changes import CHANGES, REPORTED, Change, changes, reported, update
from grading.cli import main, write_class
from grading.submission import scored

pytestmark = [pytest.mark.grading]
RULES = reduced(["3.2c"])
REMARKS = [check.id for check in RULES.code[0].checks if not check.points]  # show what was found, and cost nothing
CHECKS = [check.id for check in RULES.code[0].checks if check.points]
TITLE = RULES.code[0].checks[0].title


def record(student="doe", digest="d1", version="g1 r1 stand-in", ungraded="", **found: tuple[float, str]) -> dict:
    """A record of question 3.2c; found: {check: (fraction, diagnosis)}, the others right."""
    checks = [{"id": check, "fraction": found.get(check, (1.0, ""))[0], "diagnosis": found.get(check, (1.0, ""))[1],
               "numbers": ""} for check in CHECKS + REMARKS]
    question = {"seconds": 1.0, "version": version, "checks": checks} | ({"ungraded": ungraded} if ungraded else {})
    return {"key": "k", "student": student, "error": "", "flags": [], "seconds": 1.0, "submission": digest,
            "questions": {"3.2c": question}}


def between(before: dict, after: dict, rules=RULES, new_rules=RULES) -> list[Change]:
    return changes(reported([scored(before, rules)]), reported([scored(after, new_rules)]))


def worth(factor: float):
    row = RULES.code[0]
    row = dataclasses.replace(row, checks=tuple(dataclasses.replace(check, points=factor * check.points)
                                                for check in row.checks))
    return dataclasses.replace(RULES, questions=tuple(row if q.number == "3.2c" else q for q in RULES.questions))


WRONG = {CHECKS[0]: (0.0, "gamma is missing")}


@pytest.mark.parametrize("change, reason", [
    ({"version": "g2 r1 stand-in"}, "the grader changed"), ({"version": "g1 r2 stand-in"}, "the rubric changed"),
    ({"version": "g1 r1 real"}, "the data changed"), ({"digest": "d2"}, "a new submission"), ({}, "graded again"),
    ({"version": "g2 r1 real", "digest": "d2"}, "a new submission; the grader changed; the data changed")])
def test_reasons(change, reason):
    found, = between(record(), record(**change, **WRONG))
    most = f"{RULES.code[0].checks[0].points:g}"
    assert found == Change("doe", "3.2c", TITLE, most, "0", reason, "gamma is missing")
    back, = between(record(**WRONG), record(**change))
    assert (back.before, back.after, back.reason, back.diagnosis) == ("0", most, reason, "before: gamma is missing")


def test_nothing_changed_though_everything_was_graded_again():
    assert not between(record(**WRONG), record(version="g2 r2 real", digest="d2", **WRONG))
    assert not changes(reported([scored(record("doe"), RULES)]), reported([scored(record("roe", **WRONG), RULES)]))


def test_points_of_the_rubric_are_told_from_findings():
    found = between(record(**WRONG), record(version="g2 r1 stand-in", **WRONG), new_rules=worth(2))
    assert len(found) == len(CHECKS) - 1  # what was wrong is worth nothing still
    assert {change.reason for change in found} == {"the rubric's points changed"}
    found, *_ = between(record(), record(version="g2 r1 stand-in", **WRONG), new_rules=worth(2))
    assert found.reason == "the grader changed; the rubric's points changed"
    part = {CHECKS[0]: (0.9, "nearly")}
    found, = between(record(**part), record(**part), worth(4), dataclasses.replace(worth(4), partial=0.5))
    assert found.after == "0.5" and found.reason == "the rubric's points for what is right in part changed"


def test_ungraded_is_not_nought():
    found = between(record(ungraded="needs pandas"), record(version="g2 r1 stand-in"))
    assert [change.before for change in found] == [""] * len(CHECKS) and float(found[0].after) > 0
    assert found[0].reason == "the grader changed" and found[0].diagnosis == "not graded before: needs pandas"
    found = between(record(**WRONG), record(ungraded="needs pandas"))
    assert found[0].before == "0" and found[0].after == "" and found[0].diagnosis == "not graded now: needs pandas"
    assert not between(record(ungraded="a"), record(ungraded="b"))
    assert REMARKS and not between(record(), record(**{REMARKS[0]: (0.0, "nothing that costs")}))


def test_other_checks_are_named():
    old, new = reported([scored(record(), RULES)]), reported([scored(record(), RULES)])
    del old["doe"]["questions"]["3.2c"]["checks"][CHECKS[0]]
    found, = changes(old, new)
    assert found.before == "" and found.reason == "the rubric has other checks"
    found, = changes(new, old)
    assert found.after == "" and found.check == TITLE
    old["doe"]["questions"] = {}
    assert len(changes(old, new)) == len(CHECKS)


def test_log_grows_and_a_damaged_report_is_none(tmp_path):
    one, other = [scored(record(), RULES)], [scored(record("=doe"), RULES)]
    assert update(tmp_path, one + other) == [] and not (tmp_path / CHANGES).exists()
    wrong = [scored(record(version="g2 r1 stand-in", **WRONG), RULES), scored(record("=doe", **WRONG), RULES)]
    assert len(update(tmp_path, wrong)) == 2 and update(tmp_path, wrong) == []
    assert len(update(tmp_path, one)) == 1
    with open(tmp_path / CHANGES, newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["student"] for row in rows] == ["'=doe", "doe", "doe"] and rows[1]["reason"] == "the grader changed"
    assert list(rows[0]) == ["when", "student", "question", "check", "before", "after", "reason", "diagnosis"]
    for text in ("{", "[]", '{"doe": 1}', '{"doe": {"questions": []}}'):
        (tmp_path / REPORTED).write_text(text)
        assert update(tmp_path, one) == []
        assert json.loads((tmp_path / REPORTED).read_text())


@needs_confinement
def test_a_rerun_with_another_grader_says_whose_points_changed(tmp_path, capsys, monkeypatch):
    """The grader changes under a class of two; one of them loses what the other never had."""
    rules = reduced(["1.2"], scripts=False)
    monkeypatch.setattr(rubric, "load", lambda path=None: rules)
    faulty = MODULES.replace("dout.sum(axis=0", "dout.sum(axis=1")
    paths = [submission(tmp_path / "doe"), submission(tmp_path / "roe", modules=faulty)]
    command = [*map(str, paths), "--out", str(tmp_path / "out")]
    assert main("", command) == 0 and "changed" not in capsys.readouterr().err
    question = submissions.QUESTIONS["1.2"]
    harsh = {**question.own_checks, "linear_backward_bias": lambda replies, context: question.own_checks["elu_forward"](
        {"elu": replies["softmax"]}, context)}
    monkeypatch.setitem(submissions.QUESTIONS, "1.2", dataclasses.replace(question, own_checks=harsh))
    monkeypatch.setattr(submissions, "grader_digest", lambda: "another")
    assert main("", command) == 0
    said = capsys.readouterr().err
    assert "points of 1 student changed since the last run" in said and "changed: doe 1.2" in said and "roe 1.2" not in said
    assert "-> 0 (the grader changed)" in said
    page = (tmp_path / "out" / "summary.html").read_text()
    assert "Changed since the last run" in page and "the grader changed" in page
    write_class(tmp_path / "out", rules)
    assert "Changed since the last run" not in (tmp_path / "out" / "summary.html").read_text()
