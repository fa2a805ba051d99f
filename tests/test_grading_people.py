"""Who handed in: file names of Canvas and Brightspace, the roster, pseudonyms, and the gradebooks made from them."""

import re
import zipfile
from pathlib import Path

import pytest
from test_grading_class import packed, table
from test_grading_desk import ALL, FULL, RULES, filled, kept, marks, record

from grading import classroom, gradebooks, intake, people
from grading.cli import main
from grading.people import HandIn, Person
from grading.spreadsheets import TableError

pytestmark = [pytest.mark.grading]

CANVAS = '''Student,ID,SIS User ID,SIS Login ID,Section,Practical 1 (777)
    Points Possible,,,,,100
"Doe, Jane",1001,s11,jdoe@uni.example,TA 1,
"de Vries, Sam",1003,s13,svries,TA 2,
"Łoś, Ana",1004,s14,alos,TA 2,
"Student, Test",1999,,,TA 1,
'''


@pytest.mark.parametrize("name, student, rest", [
    ("doejane_LATE_12345_6789012_doe_assignment1.zip", "doejane_12345", {"id": "12345", "late": True, "order": 6789012}),
    ("doejane_12345_6789013_doe_assignment1-1.zip", "doejane_12345", {"id": "12345", "order": 6789013}),
    ("12345-678901 - Jane Doe - Nov 12, 2026 1131 PM - doe_assignment1.zip", "Jane Doe 12345", {"name": "Jane Doe"}),
    ("12345-678901 - Jane Doe- Nov 12, 2026 131 PM", "Jane Doe 12345",
     {"name": "Jane Doe", "file": "12345-678901 - Jane Doe- Nov 12, 2026 131 PM"}),
    ("doe_assignment1.zip", "doe_assignment1", {}), ("doe_2026_1_assignment1.zip", "doe_2026_1_assignment1", {"file": "doe_2026_1_assignment1"})])
def test_file_names_say_who(name, student, rest):
    found = people.parse(Path("class") / name)
    assert found == HandIn(student, **{"order": found.order, "file": "doe_assignment1"} | rest)


def test_brightspace_names_the_folder_around_a_zip():
    assert people.parse(Path("12345-67 - Jane Doe - Nov 12, 2026 1131 PM/doe.zip")).student == "Jane Doe 12345"
    early, late = (people.parse(Path(f"1-2 - Jane Doe - Nov 12, 2026 {time}")) for time in ("131 PM", "1131 PM"))
    assert 0 < early.order < late.order and early.student == late.student


@pytest.mark.parametrize("early, late", [
    ("Nov 12, 2026 905 AM", "Nov. 12, 2026 1132 PM"), ("13 November 2026 905 AM", "13 November 2026 1105 AM"),
    ("12 November, 2026 1132 PM", "2 December, 2026 1132 PM"), ("12 november 2026 23.31", "12 november 2026 23.32"),
    ("Thursday, September 3, 2026 9 05 a.m.", "Saturday, Oct 3, 2026 2_05 p.m."), ("12. nov. 2026 2331", "13. nov. 2026 905"),
    ("12 de noviembre de 2026 23h32", ""), ("12. März 2026 23.32 Uhr", ""), ("2026年11月12日 2332", ""),
    ("2026. november 12. 23.32", ""), ("12.11.2026 2332", "")])
def test_brightspaces_date_may_be_written_in_many_ways(early, late):
    orders = []
    for date in filter(None, (early, late)):
        for file, name in (("doe - 2", f"12345-67 - Anna-Maria Doe - {date} - doe - 2.zip"), ("doe", f"12345-67 - Anna-Maria Doe- {date}/doe.zip")):
            found = people.parse(Path(name))
            assert (found.student, found.name, found.file) == ("Anna-Maria Doe 12345", "Anna-Maria Doe", file)
        orders.append(found.order)
    assert 0 < orders[0] < orders[1] if late else orders == [0]  # 0: which is the last is not known


def test_a_date_that_is_not_understood_decides_nothing(tmp_path):
    """Of 30 april and 2 mei the first looks English: it is not the last for that."""
    for date in ("30 april 2026 23.32", "2 mei 2026 23.32"):
        packed(tmp_path / f"1-2 - Jane Doe - {date} - doe.zip")
    both = classroom.submissions(sorted(tmp_path.iterdir()))
    assert len(both) == 2 and all(one.notes == ["another submission is called Jane Doe 1 as well"] for one in both)


def test_the_last_hand_in_of_a_student_is_graded(tmp_path):
    for name in ("doejane_1_600001_doe.zip", "doejane_LATE_1_600093_doe-1.zip", "roe_1_600002_roe.zip"):
        packed(tmp_path / name)
    doe, roe = classroom.submissions(sorted(tmp_path.iterdir()))
    assert (doe.student, doe.path.name) == ("doejane_1", "doejane_LATE_1_600093_doe-1.zip") and roe.student == "roe_1"
    assert doe.notes == ["late, says the file's name", "1 earlier of the same student left out"] and not roe.notes
    (tmp_path / "twin").mkdir()
    packed(tmp_path / "twin" / "roe_1_600002_roe.zip")
    with pytest.raises(classroom.ClassError, match="two submissions are called roe_1"):
        classroom.submissions([*tmp_path.glob("*.zip"), *tmp_path.glob("twin/*.zip")])


BRIGHTSPACE_FOLDER = "111-900001 - Jane Doe - Nov 12, 2026 1015 AM"


@pytest.mark.parametrize("files, student, pdfs", [  # as the platforms' downloads are laid out, in any order
    (("doejane_101_9101_doe.zip", "doejane_101_9102_report.pdf"), "doejane_101", ["report.pdf"]),
    (("doejane_101_9102_doe.zip", "doejane_101_9101_report.pdf"), "doejane_101", ["report.pdf"]),
    ((f"{BRIGHTSPACE_FOLDER} - doe.zip", f"{BRIGHTSPACE_FOLDER} - report.pdf"), "Jane Doe 111", ["report.pdf"]),
    ((f"{BRIGHTSPACE_FOLDER}/doe.zip", f"{BRIGHTSPACE_FOLDER}/report.pdf", "index.html"), "Jane Doe 111", ["report.pdf"]),
    (("submission_1/doe.zip", "submission_metadata.yml"), "submission_1", [])])
def test_a_report_beside_the_code_is_of_the_same_student(tmp_path, files, student, pdfs):
    for name in (*files, "roe.zip"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        with zipfile.ZipFile(tmp_path / name, "w") as file:  # which its report is not in
            file.writestr("code/modules.py", "")
    found = {one.student: one for one in classroom.submissions(sorted(tmp_path.iterdir()))}
    assert found.keys() == {student, "roe"} and found[student].path.name.endswith("doe.zip")
    assert list(found[student].pdfs) == pdfs and not found[student].notes
    intake.take_in(found[student], tmp_path / "taken")
    assert not found[student].error and ("no report (PDF)" in found[student].flags) is not bool(pdfs)


def test_what_lies_beside_the_code_and_is_no_report_is_named(tmp_path):
    for name in ("doe_1_6001_a.zip", "doe_1_6002_curves.png", "roe_2_6003_b.zip"):
        packed(tmp_path / name)
    doe, _ = classroom.submissions(sorted(tmp_path.iterdir()))
    assert doe.path.name == "doe_1_6001_a.zip" and doe.notes == ["left out beside it: curves.png"]
    anonymous = classroom.submissions(sorted(tmp_path.iterdir()), people.People(pseudonyms={}))  # in any order
    doe = next(one for one in anonymous if one.path.name == "doe_1_6001_a.zip")
    assert "curves.png" in doe.hide  # a name may stand in it
    (tmp_path / "2-3 - Two - Nov 12, 2026 1015 AM").mkdir()
    for name in ("v1.zip", "v2.zip"):  # nobody knows which
        packed(tmp_path / "2-3 - Two - Nov 12, 2026 1015 AM" / name)
    assert {one.path.name for one in classroom.submissions(sorted(tmp_path.iterdir()))} == {
        "doe_1_6001_a.zip", "roe_2_6003_b.zip", "2-3 - Two - Nov 12, 2026 1015 AM"}
    code = tmp_path / "zed" / "hand-in" / "code"  # beside data of its own
    code.mkdir(parents=True)
    (code / "modules.py").touch()
    packed(tmp_path / "zed" / "data.zip")
    assert tmp_path / "zed" in {one.path for one in classroom.submissions(sorted(tmp_path.iterdir()))}


# ---------------------------------------------------------------- roster


@pytest.mark.parametrize("source, expected", [
    (CANVAS, {"doejane_1001": "Jane Doe", "jdoe_assignment1": "Jane Doe", "doe_assignment1": "Jane Doe",
              "s13": "Sam de Vries", "de_vries_assignment1": "Sam de Vries", "vries_assignment1": None,
              "jansen_piet": None, "de_vries_tom": None, "de_vries_sam": "Sam de Vries",
              "Ana Łoś 77": "Ana Łoś", "Sam de Vries 55": "Sam de Vries", "samdevries_hw1": "Sam de Vries", "roe": None}),
    ("OrgDefinedId,Username,Last Name,First Name\n#11,#jdoe,Doe,Jane\n#12,#rdoe,Doe,Rae\n",
     {"jdoe_assignment1": "Jane Doe", "12_assignment1": "Rae Doe", "doe_assignment1": None, "Rae Doe 5": "Rae Doe"}),
    ("login;name\njd1;Jane van der Doe\n", {"vanderdoe_x": "Jane van der Doe", "doe_x": "Jane van der Doe", "jd1": "Jane van der Doe"})])
def test_a_roster_knows_them_by_id_login_number_or_name(tmp_path, source, expected):
    (tmp_path / "roster.csv").write_text(source)
    known = people.People(people.read_roster(tmp_path / "roster.csv"))
    for student, name in expected.items():
        hand_in = people.parse(Path(f"{student}_600001_x" if student.endswith("_1001") else student))
        one = {"student": student, "name": hand_in.name, "id": hand_in.id}
        found = known.person(one)
        assert (found and found.name) == name, student


@pytest.mark.parametrize("source, message", [
    ("name\nJane\n", "no column id, login or number"), ("id\n1\n", "no column name"),
    ("id,name\n1,a\n1,b\n", "has the id 1 twice"), (None, "cannot be read")])
def test_a_wrong_roster_is_one_line(tmp_path, capsys, source, message):
    if source is not None:
        (tmp_path / "roster.csv").write_text(source)
    (tmp_path / "doe").mkdir()
    assert main("", [str(tmp_path / "doe"), "--roster", str(tmp_path / "roster.csv"), "--out", str(tmp_path / "out")]) == 2
    assert message in (error := capsys.readouterr().err) and error.count("\n") == 1


@pytest.fixture
def out(tmp_path) -> Path:
    """Two graded students of Canvas, a third in no roster, and what a TA gave."""
    (tmp_path / "canvas.csv").write_text(CANVAS)
    out = kept(tmp_path / "out", record("doejane_1001", id="1001"), record("devriessam_1003", id="1003", fraction=0.0),
               record("poe_assignment1"))
    return filled(out, ALL, f"doejane_1001,{FULL}", "devriessam_1003,1,,,,,,,", f"poe_assignment1,{FULL}")


def merge(out: Path, *flags: str) -> int:
    return main("", ["--merge", "--out", str(out), *flags])


def test_gradebooks_are_what_canvas_and_brightspace_import(out, capsys):
    assert merge(out, "--roster", str(out.parent / "canvas.csv"), "--assignment", "Practical 1, CNNs (777)") == 1
    said = capsys.readouterr()
    for book in ("canvas.csv", "brightspace.csv"):
        assert book in said.out and (f"note: poe_assignment1 is left out of {book}, without an id to import them by: "
                                     "add them to the roster\n") in said.err
    assert said.err.count("left out") == 2 and "note: not in the roster: poe_assignment1\n" in said.err
    assert (out / "canvas.csv").read_text() == '''Student,ID,SIS User ID,SIS Login ID,Section,"Practical 1, CNNs (777)"
    Points Possible,,,,,100
"de Vries, Sam",1003,s13,svries,TA 2,
"Doe, Jane",1001,s11,jdoe@uni.example,TA 1,73
"Łoś, Ana",1004,s14,alos,TA 2,
'''
    assert (out / "brightspace.csv").read_text() == '''OrgDefinedId,Username,Last Name,First Name,Practical 1 CNNs Points Grade,End-of-Line Indicator
#s13,#svries,de Vries,Sam,,#
#s11,#jdoe@uni.example,Doe,Jane,73,#
#s14,#alos,Łoś,Ana,,#
'''
    rows = {row["student"]: row["name"] for row in table(out / "final.csv")}
    assert rows == {"doejane_1001": "Jane Doe", "devriessam_1003": "Sam de Vries", "poe_assignment1": ""}
    shown = (out / "summary.html").read_text()
    assert ">Jane Doe</a>" in shown and re.search(r"Ana Łoś</td>.*no submission", shown)
    assert "Test Student" not in shown and "Points Possible" not in shown
    assert "<h1>Jane Doe</h1>" in (out / "students" / "doejane_1001" / "feedback.html").read_text()
    assert merge(out) == 1 and "Jane Doe" in (out / "final.csv").read_text()  # the roster is kept


def test_without_ids_there_is_no_gradebook(tmp_path):
    out = filled(kept(tmp_path, record()), ALL, f"doe,{FULL}")
    (out / "canvas.csv").write_text("of an earlier merge")
    assert merge(out) == 0 and not (out / "canvas.csv").exists() and not (out / "brightspace.csv").exists()
    assert "name" not in table(out / "final.csv")[0]


def test_without_a_roster_there_are_rows_only_for_known_ids(out, capsys):
    assert merge(out) == 1
    assert (out / "canvas.csv").read_text().splitlines()[2:] == ["devriessam_1003,1003,,,,", "doejane_1001,1001,,,,73"]
    assert not (out / "brightspace.csv").exists()
    assert [line for line in capsys.readouterr().err.splitlines() if "left out" in line] == [
        "note: poe_assignment1 is left out of canvas.csv, without an id to import them by: add them to the roster"]


NAMESAKES = "id,login,name,section{0}\n1001,jdoe1,Jane Doe,TA 1{1}\n1002,jdoe2,Jane Doe,TA 2{2}\n1003,pdoe,Pat Doe,TA 2{3}\n"


def test_students_of_one_name_are_told_and_told_apart(tmp_path):
    def known(*files):
        (tmp_path / "roster.csv").write_text(NAMESAKES.format(*files or 4 * [""]))
        return people.People(people.read_roster(tmp_path / "roster.csv"))

    hand_ins = [{"student": name} for name in ("jane_doe_a1", "jdoe2_a1", "doe_a1", "doe_pat", "poe_a1")]
    ids = [found and found.id for found in map(known().person, hand_ins)]
    assert ids == [None, "1002", None, "1003", None]
    assert known().problems(hand_ins) == [
        "not in the roster: poe_a1",
        "jane_doe_a1 may be 2 students of the roster, Jane Doe (id 1001) and Jane Doe (id 1002): give the roster a column "
        "'file' and write jane_doe_a1 in the line of the right one",
        "doe_a1 may be 3 students of the roster, Jane Doe (id 1001) and Jane Doe (id 1002) and Pat Doe (id 1003): give the "
        "roster a column 'file' and write doe_a1 in the line of the right one"]
    followed = known(",file", ",jane_doe_a1", ",", ",doe_a1")
    assert [found and found.id for found in map(followed.person, hand_ins)] == ["1001", "1002", "1003", "1003", None]


def test_two_submissions_of_one_student_are_told(tmp_path, capsys):
    (tmp_path / "canvas.csv").write_text(CANVAS)
    out = filled(kept(tmp_path / "out", record("jdoe_a"), record("doe_b")), ALL, f"jdoe_a,{FULL}", f"doe_b,{FULL}")
    assert merge(out, "--roster", str(tmp_path / "canvas.csv")) == 0
    assert "doe_b and jdoe_a are the same student in the roster; rename or remove one" in capsys.readouterr().err
    assert '"Doe, Jane",1001,s11,jdoe@uni.example,TA 1,\n' in (out / "canvas.csv").read_text()


def test_names_that_look_like_formulas_stay_text():
    known = people.People([Person("=cmd()", id="1")])
    lines = gradebooks.lines([marks(student="1")], known)
    assert "'=cmd()" in gradebooks.canvas(lines, "x", 100)


# ---------------------------------------------------------------- pseudonyms


def test_pseudonyms_hide_names_and_stay_the_same(tmp_path, capsys):
    (tmp_path / "canvas.csv").write_text(CANVAS)
    zips = [tmp_path / "doejane_1001_600001_doe.zip", tmp_path / "devriessam_1003_600003_x.zip"]
    for path in zips:
        path.write_text("no ZIP file")
    out, flags = tmp_path / "out", ["--anonymous", "--roster", str(tmp_path / "canvas.csv")]
    assert main("", [str(zips[0]), "--out", str(out), *flags]) == 1
    first = [path.name for path in (out / "students").iterdir()]
    assert main("", [*map(str, zips), "--out", str(out)]) == 1  # goes by the key it finds
    students = sorted(path.name for path in (out / "students").iterdir())
    assert len(students) == 2 and set(first) < set(students)
    assert all(re.fullmatch(r"student-[0-9a-f]{6}", name) for name in students)
    secret = re.compile("doe|jane|vries|sam|(?<![0-9a-f])(1001|600003)(?![0-9a-f])", re.I)  # not within a hash
    for path in [*out.glob("students/*/*"), out / "summary.html", out / "grades.csv", out / "written.csv"]:
        text = re.sub("data:image.*?\"|same|sample", "", path.read_text())
        assert not secret.search(text), (path, secret.search(text))
    assert not secret.search(re.sub(r"/\S*|same|sample", "", capsys.readouterr().err))
    assert re.search(r"1 of the roster</td>.*no submission", (out / "summary.html").read_text())
    key = {row["pseudonym"]: row["student"] for row in table(out / "anonymous.csv")}
    assert key[first[0]] == "doejane_1001" and set(key) == set(students)
    filled(out, ALL, *(f"{name},{FULL}" for name in students))
    assert merge(out) == 0
    assert {row["student"]: row["name"] for row in table(out / "final.csv")}[first[0]] == "Jane Doe"
    assert '"Doe, Jane",1001,s11,jdoe@uni.example,TA 1,16\n' in (out / "canvas.csv").read_text()
    assert f"<h1>{first[0]}</h1>" in (out / "students" / first[0] / "feedback.html").read_text()


def test_names_and_pseudonyms_do_not_mix(tmp_path, capsys):
    kept(tmp_path / "out", record())
    path = packed(tmp_path / "roe.zip")
    assert main("", [str(path), "--anonymous", "--out", str(tmp_path / "out")]) == 2
    assert "was graded with names; choose another folder" in (error := capsys.readouterr().err) and error.count("\n") == 1
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "anonymous.csv").write_text("a,b\n")
    with pytest.raises(TableError, match="not the key of the pseudonyms"):
        people.load(tmp_path / "other")
    assert RULES.code
