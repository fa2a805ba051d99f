"""A TA's desk: marks, what written.csv gives, the summary, file names of Canvas and Brightspace, roster, gradebooks."""

import csv
import dataclasses
import html
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from grading_help import grade, needs_confinement, reduced, submission

from grading import classroom, rubric, summary, tables
from grading.checks import settled
from grading.cli import main, parse
from grading.compare import ANY, Outcome, describe
from grading.feedback import feedback
from grading.files import folder_name, write_json
from grading.gradescope import results
from grading.home import Printer
from grading.marks import Given, Marks
from grading.rubric import Late
from grading.submission import NOT_YET, scored

pytestmark = [pytest.mark.grading]
RULES = rubric.load()


def record(student: str = "doe", fraction: float = 1.0, ungraded: dict[str, str] | None = None, **more) -> dict:
    """What is kept of a submission: every check passed to the same part; ungraded: {question: why}."""
    questions = {row.number: {"seconds": 1.0, "checks": [
        {"id": check.id, "fraction": fraction, "diagnosis": "" if fraction == 1 else f"wrong {check.id}", "numbers": ""}
        for check in row.checks]} | ({"ungraded": ungraded[row.number]} if row.number in (ungraded or {}) else {})
        for row in RULES.code}
    return {"key": "k", "student": student, "source": f"{student}.zip", "error": "", "flags": [], "questions": questions,
            "seconds": 6.0, "data": "a stand-in"} | more


def marks(given: Given | None = None, rules=RULES, **changes) -> Marks:
    return Marks(scored(record(**changes), rules), rules, given or Given())


def kept(out: Path, *records: dict) -> Path:
    for one in records:
        write_json(out / "students" / folder_name(one["student"]) / "record.json", one)
    return out


def filled(out: Path, header: str, *rows: str) -> Path:
    (out / "written.csv").write_text("\n".join([header, *rows]) + "\n")
    return out


def table(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def page(out: Path, student: str = "doe") -> str:
    return (out / "students" / student / "feedback.html").read_text()


WRITTEN = [row.number for row in RULES.written]
ALL = "student," + ",".join(WRITTEN)
FULL = ",".join(["2"] * len(WRITTEN))


# ---------------------------------------------------------------- remarks and ungraded questions


def test_a_remark_is_shown_where_it_found_something_and_costs_nothing(tmp_path):
    row, remark = next((row, check) for row in RULES.code for check in row.checks if not check.points)
    one = record()
    for fraction, seen in ((0.0, True), (1.0, False)):
        check = next(check for check in one["questions"][row.number]["checks"] if check["id"] == remark.id)
        check.update(fraction=fraction, diagnosis="this would be better")
        filled(kept(tmp_path, one), ALL, f"doe,{FULL}")
        assert main("", ["--merge", "--out", str(tmp_path)]) == 0
        shown = page(tmp_path)
        assert ("this would be better" in shown) == seen and (">remark<" in shown) == seen
        assert (remark.title in shown) == seen and "0 / 0" not in shown
        test = next(test for test in json.loads((tmp_path / "students/doe/results.json").read_text())["tests"]
                    if test["number"] == row.number)
        assert test["score"] == row.points and test["status"] == "passed" and "/ 0 " not in test["output"]
        assert (f"remark  {remark.title}\n    this would be better" in test["output"]) == seen
        assert not summary.hardest([scored(one, RULES)])


def test_a_check_that_was_not_judged_says_so_instead_of_passing(tmp_path, capsys):
    """It has its points, but no mark that says it is right: on the page, on Gradescope's and at home."""
    row = RULES.code[0]
    causes, follower = row.checks[:-1], row.checks[-1]
    found = settled(row.checks, {check.id: Outcome(1.0, "", "4 of 4") for check in causes}
                    | {causes[0].id: Outcome(0.0, "wrong"), follower.id: Outcome(0.0, "wrong, too", follows=ANY)})
    why = f"Not judged: it follows from what is wrong in '{causes[0].title}'."
    assert found[follower.id].unjudged and found[follower.id].diagnosis == why
    one = record()
    one["questions"][row.number]["checks"] = [
        {"id": id, "fraction": outcome.fraction, "diagnosis": outcome.diagnosis, "numbers": outcome.numbers}
        for id, outcome in found.items()]
    filled(kept(tmp_path, one), ALL, f"doe,{FULL}")
    assert main("", ["--merge", "--out", str(tmp_path)]) == 0
    item = next(item for item in page(tmp_path).split("<li>") if f"<span>{follower.title}</span>" in item)
    assert '<span class="mark open">–</span>' in item and html.escape(why).replace("&#x27;", "&#39;") in item
    passed = next(item for item in page(tmp_path).split("<li>") if f"<span>{causes[1].title}</span>" in item)
    assert '<span class="mark good">✓</span>' in passed and "diagnosis" not in passed
    test = next(test for test in json.loads((tmp_path / "students/doe/results.json").read_text())["tests"]
                if test["number"] == row.number)
    assert f"  {follower.title}\n    {why}" in test["output"] and "4 of 4" not in test["output"]
    capsys.readouterr()
    Printer().outcome(follower.title, found[follower.id])
    mark, said = capsys.readouterr().out.splitlines()
    assert mark.split() == ["–", *follower.title.split()] and said.strip() == why


@pytest.mark.parametrize("received, said", [
    ([2e-3, 1.0], "largest error 1.0e-03 at [0]: expected 0.001, received 0.002"),  # beside 1, not an error of 50 %
    ([1e-3, 1.25], "largest relative error 2.0e-01 at [1]: expected 1, received 1.25"),
    ([1e-3, np.nan], "not a finite number at [1]: expected 1, received nan"),
    ([1e-3, np.inf], "not a finite number at [1]: expected 1, received inf")])
def test_a_printed_error_follows_from_the_printed_numbers(received, said):
    assert describe(np.array([1e-3, 1.0]), np.array(received)) == said


def test_a_crash_is_told_whole_once_on_page_and_gradescope():
    """Beside another one in the same file, of other checks; the record keeps the sentence of each."""
    one = record()
    checks = {check["id"]: check for check in one["questions"]["2.1"]["checks"]}
    for id, said in {"mlp_shape": "It raises RuntimeError: 5x9 and 6x9 (mlp_pytorch.py, line 28).",
                     "mlp_layers": "It raises RuntimeError: 5x8 and 6x8 (mlp_pytorch.py, line 28).",
                     "mlp_values": "It raises KeyError (mlp_pytorch.py, line 28).",
                     "script_flags": "It stopped before the first step: RuntimeError: 5x7 (mlp_pytorch.py, line 28).",
                     "script_loop": "No zero_grad. It stopped after step 1: KeyError: 'a (b)' (mlp_pytorch.py, line 28).",
                     "test_split": "It is not implemented (mlp_pytorch.py, line 28)."}.items():
        checks[id].update(fraction=0.0, diagnosis=said)
    shown = Marks(scored(one, RULES), RULES)
    told = next(test["output"] for test in results(shown)["tests"] if test["number"] == "2.1")
    for text in (told, html.unescape(feedback(shown))):
        assert text.count("It raises RuntimeError: 5x9 and 6x9 (mlp_pytorch.py, line 28).") == 1
        assert text.count("The same error as in 'Shape of the output'.") == 2 and text.count("RuntimeError") == 1
        assert "No zero_grad. The same error as in 'Class probabilities: ELU after each hidden layer'." in text
        assert text.count("KeyError") == 1 and "It is not implemented (mlp_pytorch.py, line 28)." in text
    assert checks["mlp_layers"]["diagnosis"].startswith("It raises")


def test_page_and_gradescope_list_the_same_questions_as_to_be_graded_by_hand():
    """A bonus is named as one: nobody waits for points that few ask for."""
    some = marks(Given({RULES.written[0].number: 2.0}))
    line = re.search(r"Graded by hand later: (.*?)\.<", feedback(some))[1]
    assert f"Graded by hand later: {line}." in results(some)["output"].splitlines()
    assert line.split(", ") == [row.number + " (bonus)" * row.bonus for row in RULES.written[1:]]
    assert "4b (bonus)" in line


def test_an_ungraded_question_has_no_score_anywhere(tmp_path):
    kept(tmp_path, record(ungraded={"3.1": "needs pandas, which is not installed here"}), record("roe"))
    filled(tmp_path, ALL, f"doe,{FULL}", f"roe,{FULL}")
    assert main("", ["--merge", "--out", str(tmp_path)]) == 1
    row, other = table(tmp_path / "grades.csv")
    assert row["3.1"] == row["code"] == "" and row["1.2"] == "15" and other["code"] == "57"
    assert row["flags"] == "partly ungraded: 3.1 (needs pandas, which is not installed here)"
    assert table(tmp_path / "final.csv")[0]["total"] == "" and table(tmp_path / "final.csv")[1]["total"] == "73"
    test = next(test for test in json.loads((tmp_path / "students/doe/results.json").read_text())["tests"]
                if test["number"] == "3.1")
    assert "score" not in test and "status" not in test
    assert test["output"] == "Not graded: needs pandas, which is not installed here."
    assert "Not graded: needs pandas" in page(tmp_path) and "open / 8" in page(tmp_path) and "Total" not in page(tmp_path)
    shown = (tmp_path / "summary.html").read_text()
    assert "Questions that were not graded" in shown and "1 question: needs pandas" in shown
    filled(tmp_path, f"{ALL},3.1", f"doe,{FULL},7", f"roe,{FULL},")  # the way out: a TA gives the points
    assert main("", ["--merge", "--out", str(tmp_path)]) == 0
    assert [row["total"] for row in table(tmp_path / "final.csv")] == ["72", "73"]
    assert "Set by hand. Not graded: needs pandas" in page(tmp_path)


def test_what_a_ta_has_given_points_for_is_no_longer_ungraded(tmp_path):
    left = {row.number: NOT_YET for row in RULES.code if row.number != "3.2b"}  # of --only 3.2b
    kept(tmp_path, record(ungraded=left), record("roe", ungraded=left))
    filled(tmp_path, f"{ALL},{','.join(left)}", *(f"{student},{FULL},{','.join('1' * len(left))}" for student in ("doe", "roe")))
    assert main("", ["--merge", "--out", str(tmp_path)]) == 0
    shown = (tmp_path / "summary.html").read_text()
    assert shown.count("<td>graded</td>") == 2 and "were not graded" not in shown and "not graded yet" not in shown
    assert page(tmp_path).count(">Set by hand.<") == len(left) and "ot graded" not in page(tmp_path)
    filled(tmp_path, f"{ALL},1.2", f"doe,{FULL},1", f"roe,{FULL},")
    assert main("", ["--merge", "--out", str(tmp_path)]) == 1
    assert f"{2 * len(left) - 1} questions: not graded yet" in (tmp_path / "summary.html").read_text()
    tests = json.loads((tmp_path / "students/roe/results.json").read_text())["tests"]
    assert {test["output"] for test in tests if test["number"] in left} == {"Not graded yet."}


def test_a_bonus_without_points_is_not_said_to_be_graded(tmp_path):
    bonus = next(i for i, row in enumerate(RULES.written) if row.bonus)
    cells = ["2"] * len(WRITTEN)
    filled(kept(tmp_path, record()), ALL, "doe," + ",".join([*cells[:bonus], "", *cells[bonus + 1:]]))
    assert main("", ["--merge", "--out", str(tmp_path)]) == 0
    assert page(tmp_path).count("No bonus points.") == 1
    assert page(tmp_path).count("Graded by hand from the report.") == len(WRITTEN) - 1


# ---------------------------------------------------------------- what a TA gives


def test_an_override_and_its_comment_reach_page_gradescope_and_table(tmp_path):
    kept(tmp_path, record(fraction=0.0), record("roe"))
    filled(tmp_path, f"{ALL},1.2,1.2 comment,1.1a comment", f"doe,{FULL},\"12,5\",only a <typo>,see page 2", f"roe,{FULL},,,")
    assert main("", ["--merge", "--out", str(tmp_path)]) == 0
    row, other = table(tmp_path / "final.csv")
    assert row["1.2"] == "12.5" and row["2.1"] == "0" and row["total"] == "28.5" and other["1.2"] == "15"
    assert table(tmp_path / "grades.csv")[0]["1.2"] == "0"  # what the checks gave
    shown = page(tmp_path)
    assert "Set by hand. The checks gave 0 / 15." in shown and "only a &lt;typo&gt;" in shown and "see page 2" in shown
    remarks = [check for question in RULES.code for check in question.checks if not check.points]
    assert ">0 / 1<" in shown and shown.count(">remark<") == len(remarks)
    assert "wrong linear_forward" in shown and "Set by hand" not in page(tmp_path, "roe")
    tests = {test["number"]: test for test in json.loads((tmp_path / "students/doe/results.json").read_text())["tests"]}
    assert tests["1.2"]["score"] == 12.5
    assert tests["1.2"]["output"].startswith("Set by hand. The checks gave 0 / 15.\nonly a <typo>\n")
    assert "see page 2" in tests["1.1a"]["output"]


@pytest.mark.parametrize("line_break", ["\n", "\r\n", "\r", "\u2028"])
def test_a_comment_keeps_its_line_breaks_and_its_blanks(tmp_path, line_break):
    filled(kept(tmp_path, record()), f"{ALL},1.2 comment,comment")
    with open(tmp_path / "written.csv", "a", newline="") as file:
        file.write(f'doe,{FULL},"well\tdone\xa0!{line_break}{line_break}but\u202f: x\x07","a{line_break}b"\n')
    assert main("", ["--merge", "--out", str(tmp_path)]) == 0
    assert '<p class="comment">well done !\n\nbut : x\ufffd</p>' in page(tmp_path)
    assert '<p class="comment">a\nb</p>' in page(tmp_path) and "white-space: pre-line" in page(tmp_path)


@pytest.mark.parametrize("cells, message", [
    (f"9{FULL},", "line 4, roe, question 1.1a"), (f"{FULL},,,x", "line 4: "), (",\ndoe", "line 5, names 'doe' twice")])
def test_a_message_counts_lines_as_a_spreadsheet_does(tmp_path, capsys, cells, message):
    """A comment with line breaks is one line of it, and so is an empty one."""
    filled(kept(tmp_path, record(), record("roe")), f"{ALL},comment", f"doe,{FULL},\"a\n\nb\nc\"", "", f"roe,{cells}")
    assert main("", ["--merge", "--out", str(tmp_path)]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("days, lost, line", [
    ("", 0, ""), ("1", 0, "1 day late: no deduction"), ("2", 10, "2 days late: -10 points"),
    ("3", 20, "3 days late: -20 points"), ("4", 73, "4 days late: -73 points")])
def test_late_days_cost_what_the_rubric_says(tmp_path, days, lost, line):
    (tmp_path / "rubric.toml").write_text(
        rubric.DEFAULT.read_text().replace("# [late]\n# points_per_day = 10\n# free_days = 0\n# max_days = 3",
                                           "[late]\npoints_per_day = 10\nfree_days = 1\nmax_days = 3"))
    flags = ["--merge", "--out", str(tmp_path), "--rubric", str(tmp_path / "rubric.toml")]
    filled(kept(tmp_path, record()), f"{ALL},late_days", f"doe,{FULL},{days}")
    assert main("", flags) == 0
    [row] = table(tmp_path / "final.csv")
    assert (row["late_days"], row["deduction"], row["total"]) == (days or "0", str(lost), str(73 - lost))
    assert json.loads((tmp_path / "students/doe/results.json").read_text())["score"] == 73 - lost
    assert line in page(tmp_path) and ("late" in page(tmp_path)) == bool(line)
    assert f"Total: {73 - lost} / 100" in page(tmp_path)


def test_a_deduction_takes_no_more_than_there_is():
    late = Late(points_per_day=10)
    assert marks(Given(late_days=3), rules=dataclasses.replace(RULES, late=late), fraction=0.1).so_far == 0
    assert late.deduction(1, 0) == 0 and late.deduction(9, 57) == 57


@pytest.mark.parametrize("section, message", [
    ("points_per_day = 0", "late: points_per_day must be a number above 0"), ("free_days = 1", "points_per_day must be"),
    ("points_per_day = 5\nmax_days = -1", "max_days must be"), ("points_per_day = 5\nper_week = 1", "'per_week' is not one"),
    ("points_per_day = 5\nfree_days = 4\nmax_days = 3", "free_days must not be above max_days")])
def test_a_wrong_section_late_is_one_line(tmp_path, section, message):
    text = rubric.DEFAULT.read_text().replace("# [late]", f"[late]\n{section}\n# ")
    (tmp_path / "rubric.toml").write_text(text)
    with pytest.raises(rubric.RubricError, match=message):
        rubric.load(tmp_path / "rubric.toml")


def test_what_is_filled_in_survives_grading_again(tmp_path):
    one = scored(record(), RULES)
    tables.write_form(tmp_path, [one], RULES)
    header, [row] = tables.read(tmp_path / "written.csv")
    assert header == ["student", *tables.form_columns(RULES)] and {"1.2", "late_days", "1.2 comment", "comment"} <= {*header}
    row.update({"1.2": "3", "late_days": "1", "1.1a comment": "a, b", "comment": "c"})
    (tmp_path / "written.csv").write_text(tables.to_csv([header, list(row.values())]))
    tables.write_form(tmp_path, [one, scored(record("roe"), RULES)], RULES)
    assert dict(tables.read(tmp_path / "written.csv")[1][0]) == row


# ---------------------------------------------------------------- the summary


def test_the_summary_has_everybody_with_state_and_link(tmp_path):
    kept(tmp_path, record(flags=["modules.py: uses <eval>"]), record("roe", error="is not a ZIP file", fraction=0.0),
         record("=poe", ungraded={"4a": "needs seaborn"}))
    filled(tmp_path, ALL, f"doe,{FULL}")
    assert main("", ["--merge", "--out", str(tmp_path)]) == 1
    shown = (tmp_path / "summary.html").read_text()
    rows = {name: row for row in re.findall(r"<tr>(.*?)</tr>", shown, re.S) for name in ("doe", "roe", "=poe")
            if f">{name}</a>" in row}
    cells = {name: re.findall(r"<td.*?>(.*?)</td>", row, re.S) for name, row in rows.items()}
    assert [cells["doe"][i] for i in (1, 2, 3, 4)] == ["57", "16", "73", "graded"] and "&lt;eval&gt;" in cells["doe"][5]
    assert cells["roe"][4] == "not graded: is not a ZIP file" and cells["=poe"][1] == "" == cells["=poe"][3]
    assert cells["=poe"][4] == "partly ungraded: 4a (needs seaborn)"
    for link in re.findall(r'href="(.*?)"', shown):
        assert (tmp_path / link).is_file(), link


EVIL = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>{{ 7 * 1117 }}{% raw %}&lt;\x00\ud800\u202e\n"


class Tags(HTMLParser):
    """The tags of a page, and its attributes."""

    def __init__(self, text: str):
        super().__init__()
        self.found: set[str] = set()
        self.attributes: set[tuple[str, str]] = set()
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.found.add(tag)
        self.attributes |= {(name, value) for name, value in attributes}


def test_no_text_of_a_student_or_a_ta_is_markup():
    one = record(EVIL, fraction=0.5, ungraded={"4a": EVIL}, flags=[EVIL], data=EVIL, warnings=[EVIL])
    for question in one["questions"].values():
        for i, check in enumerate(question["checks"]):
            check.update(diagnosis=f"{EVIL}{i}", numbers=EVIL)
    given = Given({"1.1a": 1, "1.2": 2}, {"1.1a": EVIL, "1.2": EVIL}, EVIL, late_days=1)
    rules = dataclasses.replace(RULES, title=EVIL, late=Late(1), questions=tuple(
        dataclasses.replace(row, title=EVIL) for row in RULES.questions))
    all_marks = [Marks(scored({**one, "student": f"{i}{EVIL}".replace("\ud800", "\udcff"), "error": error}, rules), rules, given)
                 for i, error in enumerate(["", "", "", "", "", EVIL])]
    shown = [feedback(all_marks[0], EVIL), feedback(all_marks[5]), summary.summary(
        all_marks, rules, b"", {one.record["student"]: EVIL for one in all_marks}, True, [(EVIL, EVIL)])]
    for text in shown:
        tags = Tags(text)
        assert tags.found <= {"html", "head", "meta", "title", "style", "body", "main", "h1", "h2", "p", "section", "div", "b",
                              "span", "i", "ul", "li", "table", "thead", "tbody", "tr", "th", "td", "a", "br", "img"}
        assert {value for name, value in tags.attributes if name == "src"} <= {"data:image/png;base64,"}
        assert not [name for name, _ in tags.attributes if name.startswith("on")]
        assert {name for name, _ in tags.attributes} <= {"lang", "charset", "name", "content", "http-equiv", "class", "style",
                                                         "href", "src", "alt"}
        links = [value for name, value in tags.attributes if name == "href"]
        assert all(re.fullmatch(r"students/[\w .+@()-]+/feedback.html", link) for link in links)
        assert text.count("{{ 7 * 1117 }}") > 3 and "7819" not in text and text.encode()
        assert not [c for c in text if not c.isprintable() and c != "\n"]


def test_a_check_that_almost_nobody_passes_is_the_grader_s_suspect():
    def class_(right: int, wrong: int) -> list[dict]:
        return [scored(record(f"s{i}", fraction=1.0 if i < right else 0.0), RULES) for i in range(right + wrong)]

    assert not summary.suspects(class_(2, 4)) and not summary.suspects(class_(0, 4))  # too many pass; too few to say
    found = summary.suspects(class_(1, 4))
    assert len(found) == sum(len(row.checks) for row in RULES.code)
    assert found[0] == {"question": "1.2", "titles": ["LinearModule: forward"], "failed": 4, "graded": 5,
                        "messages": [("wrong linear_forward", 4)]}
    shown = summary.summary([Marks(one, RULES) for one in class_(1, 4)], RULES, b"")
    assert shown.index("The grader may be at fault") < shown.index("Histogram") and "4 × wrong linear_forward" in shown
    assert "may be at fault" not in summary.summary([Marks(one, RULES) for one in class_(3, 2)], RULES, b"")
    for diagnosis, rows in (("It raises KeyError.", 7), ("modules.py is not in the submission.", 0)):
        same = class_(1, 9)
        for one in same[1:]:
            for question in one["questions"].values():
                for check in question["checks"]:
                    check["diagnosis"] = diagnosis
        assert len(found := summary.suspects(same)) == (rows and len(RULES.code))  # a row for a question's one message
        assert not found or len(found[0]["titles"]) == len(RULES.code[0].checks)


# ---------------------------------------------------------------- --only


@needs_confinement
def test_only_grades_a_question_again_and_keeps_the_others(tmp_path, monkeypatch):
    rules, folder = reduced(["3.2b", "3.2c"]), submission(tmp_path / "doe")
    out = tmp_path / "out"
    first = grade([folder], rules, out, only=["3.2c"])["doe"]
    assert first["questions"]["3.2b"]["score"] is None and first["questions"]["3.2c"]["score"] == 0
    page = feedback(Marks(first, rules))
    assert page.count("ot graded yet") == 1 and "Accuracy was measured" not in page
    whole = grade([folder], rules, out)["doe"]  # what was not graded yet, and no more
    assert whole["questions"]["3.2b"]["score"] == 0 and whole["questions"]["3.2c"] == first["questions"]["3.2c"]
    assert not [flag for flag in whole["flags"] if "alone" in flag]
    path = out / "students" / "doe" / "record.json"
    path.write_text(path.read_text().replace("is not in the submission", "KEPT"))
    monkeypatch.setattr(classroom.submission, "grader_digest", lambda: "another grader")
    again = grade([folder], rules, out, only=["3.2b"])["doe"]
    assert "KEPT" in str(again["questions"]["3.2c"]) and "KEPT" not in str(again["questions"]["3.2b"])
    assert again["flags"][0] == "graded again alone: 3.2b, by another version of the grader or rubric than the rest"
    assert again["key"] == whole["key"]
    final = grade([folder], rules, out)["doe"]  # the other grader has not graded all of it
    assert "KEPT" not in str(final) and final["key"] != whole["key"] and "alone" not in str(final["flags"])
    (folder / "custom_layernorm.py").write_text("raise ValueError('new')")
    changed = grade([folder], rules, out, only=["3.2b"])["doe"]  # of another submission nothing is kept
    assert changed["questions"]["3.2c"]["ungraded"] == "not graded yet" and "new" in str(changed["questions"]["3.2b"])


@needs_confinement
def test_only_leaves_the_other_questions_of_a_damaged_file_open(tmp_path):
    """Whoever hands in another file has no 0 in what nobody graded."""
    rules, path, out = reduced(["3.2b", "3.2c"]), tmp_path / "doe.zip", tmp_path / "out"
    path.write_text("not a ZIP file")
    scores = {}
    for only in (["3.2b"], []):
        record = grade([path], rules, out, only=only)["doe"]
        scores[len(only)] = [record["questions"][number]["score"] for number in ("3.2b", "3.2c")]
        assert Marks(record, rules).state.startswith("not graded: is not a ZIP file")
        tables.write_grades(out, [record], rules)
        assert [row["3.2c"] for row in table(out / "grades.csv")] == ["" if only else "0"]
    assert scores == {1: [0, None], 0: [0, 0]}
    assert grade([path], rules, out, only=["3.2b"])["doe"]["questions"]["3.2c"]["score"] == 0  # graded before


def test_only_names_code_questions(tmp_path, capsys):
    (tmp_path / "doe").mkdir()
    for words, message in ((["3.1", "1.1a"], "--only: '1.1a' is not a code question; they are 1.2, 2.1"),
                           (["3.1,4"], "--only: '4' is not a code question"), (["3.1", "x.zip"], "x.zip does not exist")):
        assert main("", [str(tmp_path / "doe"), "--out", str(tmp_path / "out"), "--only", *words]) == 2
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1


@pytest.mark.parametrize("words, only", [
    ("--only 3.2b doe poe", ["3.2b"]), ("--only 3.2b,1.2 doe poe", ["3.2b", "1.2"]), ("doe --only 3.2b poe", ["3.2b"]),
    ("doe poe --only 3.2b 1.2", ["3.2b", "1.2"]), ("--only 3.2b --only 4a doe poe", ["3.2b", "4a"]),
    ("--only=3.2b, doe --jobs 1 poe", ["3.2b"]), ("doe poe", [])])
def test_paths_stand_before_and_after_only(tmp_path, monkeypatch, words, only):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "doe").mkdir()
    options = parse("", words.split())
    assert options.only == only and [path.name for path in options.submissions] == ["doe", "poe"]


def test_a_folder_called_like_a_question_is_a_submission(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "4a").mkdir()
    options = parse("", ["--only", "3.2b", "4a"])
    assert options.only == ["3.2b"] and [path.name for path in options.submissions] == ["4a"]
