"""What a TA may get wrong: arguments, rubrics, names that spreadsheets or file systems stumble over."""

import functools
import re
import threading
import unicodedata
from types import SimpleNamespace

import numpy as np
import pytest
from grading_help import needs_confinement
from test_grading_class import NUMBERS, packed
from test_grading_desk import RULES, kept, record

from grading import archive, cli, rubric, submission, summary, tables
from grading.classroom import Classroom, submissions
from grading.cli import main
from grading.confinement import ConfinementError
from grading.files import folder_name
from grading.questions import QUESTIONS
from grading.submission import scored

pytestmark = [pytest.mark.grading]


@pytest.mark.parametrize("arguments, message", [
    ([], "give at least one submission"), (["nowhere.zip"], "nowhere.zip does not exist"),
    (["{zip}", "--jobs", "0"], "--jobs: '0' is not a whole number of 1 or more"), (["{zip}", "--out", "{zip}"], "cannot be written"),
    (["{zip}", "--out", "/proc/nowhere"], "cannot be written"), (["{zip}", "{other}"], "two submissions are called"),
    (["{zip}", "--rubric", "nowhere.toml"], "nowhere.toml cannot be read"),
    (["{zip}", "--data_dir", "nowhere"], "nowhere has no data_batch_1"),
    (["{zip}", "--rubric", "{zip}"], "is not TOML"), (["{zip}", "--merge"], "stands alone"), (["--unknown"], "unknown"),
    (["{zip}", "{zip}", "--results", "r.json"], "takes exactly one submission"),
    (["{zip}", "--assignment", "x"], "--assignment belongs to --merge"),
    (["--merge", "--anonymous"], "--anonymous belongs to submissions to grade, not to --merge"),
    (["--merge", "--only", "3.1"], "--only belongs to submissions to grade"),
    (["{zip}", "--only"], "--only: expected one argument"), (["{zip}", "--only", ","], "--only: invalid"),
    (["--merge", "--out", "nowhere"], "holds no graded submissions")])
def test_wrong_arguments_are_one_line(tmp_path, capsys, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "twin").mkdir()
    names = {"zip": packed(tmp_path / "doe.zip"), "other": packed(tmp_path / "twin" / "doe.zip")}
    try:
        status = main("", [argument.format(**names) for argument in arguments])
    except SystemExit as exit:
        status = exit.code
    error = capsys.readouterr().err
    assert status == 2 and message in error and error.count("\n") == 1, error


def test_the_stand_in_given_as_data_is_noted(standin, capsys):
    assert cli.real_data(standin, measured=True) is None
    error = capsys.readouterr().err
    assert "holds no CIFAR-10 but the package's stand-in" in error and error.count("\n") == 1
    pixels, labels = cli.read_batch(standin / "test_batch")
    assert pixels.shape == (len(labels), 3072) and pixels.dtype == np.uint8


def test_only_parts_of_one_number_share_a_worker():
    """What 3.1 may use and 3.2b may not, such as autograd, it could hand on."""
    rows = [SimpleNamespace(number=number) for number in QUESTIONS]
    assert [[row.number for row in rows] for rows in submission.of_one_worker(rows)] == [
        ["1.2"], ["2.1"], ["3.1"], ["3.2b", "3.2c"], ["4a"]]


@pytest.mark.parametrize("step, ungraded", [("ask", ["3.2b", "3.2c"]), ("judge", ["3.2b"])])
def test_a_mistake_of_the_grader_costs_what_it_is_made_at(monkeypatch, step, ungraded):
    """Of one submission, and is told; what cannot be confined ends the grading instead. Two questions have one worker."""
    def fail(one, rows, *_):
        if isinstance(rows, list) or rows.number == "3.2b":
            raise error

    monkeypatch.setattr(submission, "ask", lambda *_: {"3.2b": {}, "3.2c": {}})
    monkeypatch.setattr(submission, step, fail)
    one = SimpleNamespace(lock=threading.Lock(), flags=[], questions={})
    error: Exception = ZeroDivisionError("of the grader")
    room = SimpleNamespace(sandbox=None, rubric=None)
    room._troubles = functools.partial(Classroom._troubles, room)
    arguments = room, one, [SimpleNamespace(number=number, checks=()) for number in ("3.2b", "3.2c")], None
    Classroom._questions(*arguments)
    assert one.flags == [f"{number}: the grader failed (ZeroDivisionError: of the grader)" for number in ungraded]
    assert {number: question["ungraded"] for number, question in one.questions.items()} == dict.fromkeys(
        ungraded, "the grader failed (ZeroDivisionError: of the grader)")
    error = ConfinementError("no bubblewrap")
    with pytest.raises(ConfinementError):
        Classroom._questions(*arguments)


@pytest.mark.parametrize("change, message", [
    (("points = 15\nkind = \"code\"", "points = 16\nkind = \"code\""), "its checks add up to 15 points, not 16"),
    (("linear_forward", "linear_sideways"), "has no check 'linear_sideways'"),
    (("points = 15", "points = -1"), "points must be a number above 0"), (("kind = \"code\"", "kind = \"oral\""), "kind must be"),
    (("bonus = true", "bonos = true"), "'bonos' is not one of"), (("number = \"4b\"", "number = \"4a\""), "stands twice"),
    (("memory_mb =", "memory_mb = 'much' #"), "memory_mb must be a number"),
    (("number = \"3.2c\"", "number = \"3.3\""), "question 3.3 has no checks"),
    (("none = 0.33", "none = 0.56"), "none must be below full")])
def test_wrong_rubrics_are_one_line(tmp_path, capsys, change, message):
    text = "\n".join(line for line in rubric.DEFAULT.read_text().splitlines() if not line.startswith("#"))
    assert change[0] in text
    (tmp_path / "rubric.toml").write_text(text.replace(*change, 1))
    path = packed(tmp_path / "doe.zip")
    assert main("", [str(path), "--rubric", str(tmp_path / "rubric.toml"), "--out", str(tmp_path / "out")]) == 2
    assert message in (error := capsys.readouterr().err) and error.count("\n") == 1, error


def test_the_rubric_is_the_assignment_s():
    rules = rubric.load()
    assert {row.number: row.points for row in rules.questions} == dict(
        zip(NUMBERS, [15, 5, 10, 3, 15, 20, 3, 8, 6, 3, 1, 4, 10, 5], strict=True))
    assert [row.number for row in rules.questions if row.bonus] == ["1.1d", "4b"]
    assert sum(row.points for row in rules.code) == 57
    assert sum(row.points for row in rules.questions if not row.bonus) == 100


@pytest.mark.parametrize("name", ["..", ".", "", "a/b", "a\0b", "x" * 300, "=1", "łoś", "a\nb", " "])
def test_folder_names_are_harmless_and_distinct(name):
    safe = folder_name(name)
    assert re.fullmatch(r"[\w .+@()-]+", safe) and safe not in (".", "..") and len(safe) < 120
    assert folder_name(name + "?") != folder_name(name + "!")


def test_names_are_sorted_as_people_sort_them(tmp_path):
    for name in ("Visser", "de Vries", "Bakker"):
        (tmp_path / name).mkdir()
    assert [one.student for one in submissions(sorted(tmp_path.iterdir()))] == ["Bakker", "de Vries", "Visser"]


def test_several_submissions_given_as_one_are_noticed(tmp_path):
    for name in ("Alpha", "Beta"):
        (tmp_path / "class" / name).mkdir(parents=True)
        (tmp_path / "class" / name / "modules.py").write_text("")
    taken = archive.take_in(tmp_path / "class", tmp_path / "taken")
    assert taken.notes == ["modules.py lies in 2 folders: Alpha is graded, not Beta"]
    (tmp_path / "zips").mkdir()
    packed(tmp_path / "zips" / "doe.zip")
    with pytest.raises(archive.Unreadable, match=r"holds no modules.py but doe.zip$"):
        archive.take_in(tmp_path / "zips", tmp_path / "none")


@needs_confinement
def test_only_a_folder_of_folders_or_zips_may_be_a_class(tmp_path, capsys):
    for name, inner in (("plain", "notes.txt"), ("folders", "doe/notes.txt"), ("zips", "doe.zip")):
        (tmp_path / name / inner).parent.mkdir(parents=True)
        (tmp_path / name / inner).touch()
        for flags in ([], ["--results", str(tmp_path / "results.json")]):
            assert main("", [str(tmp_path / name), "--out", str(tmp_path / "out"), *flags]) == 1
            said = capsys.readouterr().err
            assert f"{name}: holds no modules.py" in said
            assert ("; of a folder of submissions, give each one: FOLDER/*" in said) == (name != "plain" and not flags)
        assert "FOLDER" not in (tmp_path / "results.json").read_text()


def test_cells_are_no_formulas():
    for text in ("=1+1", "+1a", "-x", "@x", "'x"):
        assert tables.cell(text) == f"'{text}" and tables.plain(tables.cell(text)) == text
    assert tables.cell("-1.5") == "-1.5" and tables.cell("a\n=b") == "a =b"


def test_hardest_checks_come_first():
    def record(*scores: float) -> dict:
        return {"student": str(scores), "error": "", "questions": {"1.2": {"checks": [
            {"title": f"check {i}", "points": 1, "score": score, "diagnosis": f"d{i}"} for i, score in enumerate(scores)]}}}

    rows = summary.hardest([record(1, 0, 0.5), record(1, 1, 0), record(1, 0, 0)])
    assert [(row["title"], row["failed"]) for row in rows] == [("check 2", 3), ("check 1", 2)]
    assert rows[0]["share"] == pytest.approx(1 / 6)


# ---------------------------------------------------------------- tables as spreadsheets save them


def desk(out, *students):
    """A folder of graded submissions, with the form to fill in."""
    records = [scored(record(student), RULES) for student in students]
    kept(out, *(record(student) for student in students))
    tables.write_form(out, records, RULES)
    return out


EXCEL = {"comma": ",", "semicolon": ";", "tab": "\t", "sep": "sep=;\r\n;"}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("kind", EXCEL)
def test_written_csv_is_read_as_excel_saves_it(tmp_path, kind, encoding):
    said, separator = EXCEL[kind][:-1], EXCEL[kind][-1]
    lines = [["student", "1.1a", "comment", "", ""], ["Łoś, A", '"7,5"', '"good, but\nlate; well"', "", ""], ["", "", "", "", ""]]
    text = said + "\r\n".join(separator.join(line) for line in lines).replace("Łoś, A", '"Łoś, A"')
    (tmp_path / "written.csv").write_bytes(text.encode(encoding))
    given = tables.read_written(tmp_path / "written.csv", [record("Łoś, A")], RULES)["Łoś, A"]
    assert given.points["1.1a"] == 7.5 and given.comment == "good, but\nlate; well"


@pytest.mark.parametrize("text, points", [("7", 7), ("7.5", 7.5), ("7,5", 7.5), (" 7\u00a0", 7), (".5", 0.5), ("+3", 3),
                                          ("15.0", 15), ("", None)])
def test_points_as_people_write_them(tmp_path, text, points):
    (tmp_path / "written.csv").write_text(f"student\t1.1a\ndoe\t{text}\n")
    given = tables.read_written(tmp_path / "written.csv", [record()], RULES)["doe"]
    assert given.points.get("1.1a") == points


@pytest.mark.parametrize("text", ["1_0", "inf", "-inf", "1e1", "NaN", "0x1", "1.2.3", "1,000.5", "٣", "15.01", "-0.5", "1/2",
                                  "7 of 15", "01.feb"])
@pytest.mark.parametrize("column", ["question 1.1a", "question 1.2", "late_days"])
def test_what_is_no_number_is_refused_with_row_and_column(tmp_path, capsys, text, column):
    if column == "late_days" and text == "15.01":
        text = "400"
    desk(tmp_path, "doe", "roe")
    name = column.removeprefix("question ")
    (tmp_path / "written.csv").write_text(f"sep=\t\nstudent\t{name}\ndoe\t\nroe\t{text}\n")
    assert main("", ["--merge", "--out", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert f"written.csv, line 4, roe, {column}: {text!r} is not a number from 0 to" in error and error.count("\n") == 1
    assert "write it like 7 or 7.5, or leave the cell empty" in error


@pytest.mark.parametrize("cell, message", [
    ("1.5", "'1.5' is not a whole number of days"), ("2", "the rubric does not say what a late day costs")])
def test_late_days_that_cannot_be_used_are_refused(tmp_path, capsys, cell, message):
    (desk(tmp_path, "doe") / "written.csv").write_text(f"student,late_days\ndoe,{cell}\n")
    assert main("", ["--merge", "--out", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert message.replace("'", "") in error.replace("'", "") and "line 2, doe, late_days" in error and error.count("\n") == 1


@pytest.mark.parametrize("written", ["Jane  Doe", "Jane\u00a0Doe", " Jane Doe ", "Jane\u200b Doe\u202f", "\ufeffJane Doe"])
def test_spaces_in_a_name_find_their_student(tmp_path, written):
    (tmp_path / "written.csv").write_text(f"student,1.1a\n{written},3\n")
    assert tables.read_written(tmp_path / "written.csv", [record("Jane Doe")], RULES)["Jane Doe"].points["1.1a"] == 3
    tables.write_form(tmp_path, [scored(record("Jane Doe"), RULES)], RULES)
    assert len(tables.read(tmp_path / "written.csv")[1]) == 1  # no second line for them


def test_two_ways_to_write_an_accent_are_one_student(tmp_path):
    apart = unicodedata.normalize("NFD", "Zoë")
    (tmp_path / "written.csv").write_text("student,1.1a\nZoë,3\n")
    assert apart != "Zoë" and tables.read_written(tmp_path / "written.csv", [record(apart)], RULES)[apart].points["1.1a"] == 3


def test_a_form_that_a_spreadsheet_saved_stays_as_it_is_saved(tmp_path):
    path = desk(tmp_path, "doe") / "written.csv"
    before = "sep=;\n" + path.read_text().replace(",", ";").replace("doe;", "doe;7,5", 1)
    path.write_bytes(before.replace("\n", "\r\n").encode("utf-16"))
    saved = path.read_bytes()
    tables.write_form(tmp_path, [scored(record("doe"), RULES)], RULES)
    assert path.read_bytes() == saved  # nobody is new: not a byte is touched
    tables.write_form(tmp_path, [scored(record(name), RULES) for name in ("doe", "bor")], RULES)
    assert path.read_text().startswith("sep=;\nstudent;1.1a;") and "doe;7,5;" in path.read_text() and "bor;;" in path.read_text()


def test_a_column_of_the_tas_own_stays_and_is_not_read(tmp_path, capsys):
    path = desk(tmp_path, "doe") / "written.csv"
    header, row = path.read_text().splitlines()
    path.write_text(f"{header},who grades\n{row},7\n")
    assert main("", ["--merge", "--out", str(tmp_path)]) == 1  # questions without points
    assert "has a column 'who grades', which is not read" in capsys.readouterr().err
    tables.write_form(tmp_path, [scored(record(name), RULES) for name in ("doe", "bor")], RULES)
    assert path.read_text().splitlines()[0] == f"{header},who grades" and path.read_text().count(",7\n") == 1
    path.write_text(f"{header},who grades\n{row},7\n".replace("1.1b,", "01. Feb,", 1))
    assert main("", ["--merge", "--out", str(tmp_path)]) == 2 and "has a column '01. Feb'" in capsys.readouterr().err


def test_a_column_that_became_a_date_says_what_to_do(tmp_path, capsys):
    (desk(tmp_path, "doe") / "written.csv").write_text("student,01. Feb\ndoe,3\n")
    assert main("", ["--merge", "--out", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert "has a column '01. Feb'" in error and "make dates of numbers" in error and error.count("\n") == 1
