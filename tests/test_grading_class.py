"""A class from the command line: tables, results, pages, resuming, merging, bad input, and the same table twice."""

import csv
import json
import random
import re
import shutil
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from grading_help import MLP, MODULES, ROOT, confined_or_skip, grade, needs_confinement, reduced, submission
from grading_mutants import MUTANTS

from grading import classroom, rubric, summary, tables
from grading.cli import main, write_class, write_student
from grading.files import folder_name
from grading.questions import QUESTIONS

# of a hand-in of right modules and nothing else
MODULES_ALONE = sum(check.points for check in next(row for row in rubric.load().code if row.number == "1.2").checks
                    if not check.id.startswith("mlp_") and check.id not in QUESTIONS["1.2"].script.checks)
pytestmark = [pytest.mark.grading]

NUMBERS = ["1.1a", "1.1b", "1.1c", "1.1d", "1.2", "2.1", "2.2", "3.1", "3.2a", "3.2b", "3.2c", "3.2d", "4a", "4b"]
WRITTEN = ["1.1a", "1.1b", "1.1c", "1.1d", "2.2", "3.2a", "3.2d", "4b"]


def packed(path: Path, prefix: str = "", **files: str) -> Path:
    """A submitted ZIP, the code in a nested folder."""
    with zipfile.ZipFile(path, "w") as file:
        for name, text in ({"modules": MODULES} | files).items():
            file.writestr(f"{prefix}code/{name}.py", text)
        file.writestr(f"{prefix}report.pdf", "%PDF")
    return path


def command(*arguments: object) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, ROOT / "grade.py", *map(str, arguments)], capture_output=True, text=True)


def table(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def without_seconds(path: Path) -> list[dict[str, str]]:
    return [{key: value for key, value in row.items() if key != "seconds"} for row in table(path)]


@pytest.fixture(scope="module")
def graded(tmp_path_factory):
    """grade.py run once on a small class: two that can be graded in part, one that is not a ZIP, odd names."""
    confined_or_skip()
    folder = tmp_path_factory.mktemp("class")
    packed(folder / "doe_assignment1.zip", "Doe, J/")
    packed(folder / "=cmd|'!A1_assignment1.zip", modules=MODULES.replace("axis=0, keepdims", "axis=1, keepdims"))
    (folder / "roe_assignment1.zip").write_text("not a ZIP file")
    submission(folder / "<b>łoś<b>", modules="raise ValueError('<script>alert(1)')")
    done = command(*sorted(folder.iterdir()), "--out", folder / "out", "--jobs", 2)
    return folder, done


@pytest.fixture
def out(graded, tmp_path):
    folder, _ = graded
    return Path(shutil.copytree(folder / "out", tmp_path / "out"))


def test_exit_status_and_messages(graded):
    _, done = graded
    assert done.returncode == 1  # one submission could not be read
    assert "roe_assignment1: is not a ZIP file, or a damaged one" in done.stderr
    assert "Traceback" not in done.stderr
    assert "stand-in" in done.stderr and re.search(r"^submissions: \d+, workers at the same time: \d+$", done.stderr, re.M)


def test_grades_table(graded):
    folder, _ = graded
    text = (folder / "out" / "grades.csv").read_text()
    assert text.splitlines()[0] == ",".join(["student", *NUMBERS, "code", "flags", "seconds", "feedback"])
    rows = {row["student"]: row for row in table(folder / "out" / "grades.csv")}
    assert set(rows) == {"doe_assignment1", "'=cmd|'!A1_assignment1", "roe_assignment1", "<b>łoś<b>"}
    assert not re.search(r"(?m)^[=+@-]", text)
    doe = rows["doe_assignment1"]
    assert [doe[number] for number in WRITTEN] == [""] * 8
    assert float(doe["1.2"]) == MODULES_ALONE and doe["4a"] == "0" and float(doe["code"]) == MODULES_ALONE
    assert "missing: mlp_numpy.py, train_mlp_numpy.py" in doe["flags"]
    assert all((folder / "out" / tables.plain(row["feedback"])).is_file() for row in rows.values())
    assert float(rows["'=cmd|'!A1_assignment1"]["1.2"]) < MODULES_ALONE
    assert "not graded: is not a ZIP file" in rows["roe_assignment1"]["flags"]
    assert float(doe["seconds"]) > 0


def test_results_file_is_gradescope_s(graded):
    folder, _ = graded
    for path in (folder / "out" / "students").glob("*/results.json"):
        results = json.loads(path.read_text())
        assert [test["number"] for test in results["tests"]] == NUMBERS
        for test in results["tests"]:
            assert set(test) - {"status"} == {"name", "number", "score", "max_score", "output", "visibility"}
            assert 0 <= test["score"] <= test["max_score"]
            assert test.get("status") in ((None,) if test["number"] in WRITTEN else ("passed", "failed"))  # open: neither
            assert isinstance(test["output"], str) and test["output"] and test["visibility"] == "visible"
        assert results["score"] == pytest.approx(sum(test["score"] for test in results["tests"]))
    doe = json.loads((folder / "out" / "students" / "doe_assignment1" / "results.json").read_text())
    test = doe["tests"][NUMBERS.index("1.2")]
    assert test["max_score"] == 15 and "0.75 / 0.75  LinearModule: forward" in test["output"]
    assert "mlp_numpy.py is not in the submission." in test["output"]
    assert doe["tests"][0]["output"].startswith("Open")


def test_feedback_page_is_whole_and_escaped(graded):
    folder, _ = graded
    pages = {path.parent.name: path.read_text() for path in (folder / "out" / "students").glob("*/feedback.html")}
    assert len(pages) == 4
    assert "summed over the features (axis 1)" in next(p for name, p in pages.items() if "cmd" in name)
    evil = next(page for name, page in pages.items() if "cmd" not in name and "assignment1" not in name)
    assert "<script" not in evil and "&lt;script&gt;alert(1)" in evil and "<b>ł" not in evil
    for name, page in pages.items():
        for number in WRITTEN if "roe" in name else NUMBERS:
            assert f"<b>{number} " in page
        assert page.count("is not a ZIP file") == ("roe" in name)  # said once, and no checks that nobody ran
        assert ("measured on a small stand-in" in page) == ("roe" not in name)
        assert not re.search(r'(src|href)="(?!data:)', page)


def test_summary_has_histogram_and_hardest_checks(graded):
    folder, _ = graded
    page = (folder / "out" / "summary.html").read_text()
    assert (folder / "out" / "histogram.png").read_bytes().startswith(b"\x89PNG")
    assert "data:image/png;base64," in page and "Hardest checks" in page and "4 submissions" in page
    assert "1 not graded" in page and "measured on a small stand-in" in page
    assert "not graded: is not a ZIP file" in page and "<script" not in page


def test_finished_submissions_are_not_graded_twice(graded, out, tmp_path):
    folder, _ = graded
    before = without_seconds(out / "grades.csv")
    stamps = {p: p.stat().st_mtime_ns for p in (out / "students").glob("*/record.json")}
    late = packed(tmp_path / "late_assignment1.zip", modules="raise SystemExit\n")
    done = command(folder / "doe_assignment1.zip", late, "--out", out)
    assert done.returncode == 0, done.stderr
    assert re.search(r"doe_assignment1: .* graded before", done.stderr) and "late_assignment1: 0 code" in done.stderr
    assert {p: p.stat().st_mtime_ns for p in stamps} == stamps
    after = without_seconds(out / "grades.csv")
    assert [row for row in after if row["student"] != "late_assignment1"] == before
    assert [row["student"] for row in table(out / "written.csv")].count("late_assignment1") == 1


def test_a_changed_submission_is_graded_again(tmp_path):
    rules = reduced(["3.2c"])
    folder = submission(tmp_path / "doe")
    first = grade([folder], rules, tmp_path / "out")["doe"]
    (folder / "custom_layernorm.py").write_text("raise ValueError('new')")
    second = grade([folder], rules, tmp_path / "out")["doe"]
    assert first["key"] != second["key"] and "new" in str(second) and "new" not in str(first)
    record = tmp_path / "out" / "students" / "doe" / "record.json"
    record.write_text(record.read_text()[:100])  # cut short: graded again, not believed
    assert grade([folder], rules, tmp_path / "out")["doe"]["key"] == second["key"]


@needs_confinement
def test_ctrl_c_keeps_what_is_finished(tmp_path):
    for i in range(6):
        packed(tmp_path / f"student{i}.zip", modules=f"import time; time.sleep({0 if i < 2 else 3})\n" + MODULES)
    arguments = [sys.executable, ROOT / "grade.py", *sorted(tmp_path.glob("*.zip")), "--out", tmp_path / "out", "--jobs", "1"]
    with subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr
        for line in process.stderr:
            if line.startswith("student1:"):
                break
        process.send_signal(signal.SIGINT)
        rest = process.stderr.read()
        assert process.wait(60) == 130
    assert "run it again for the rest" in rest and "Traceback" not in rest
    kept = [row["student"] for row in table(tmp_path / "out" / "grades.csv")]
    assert {"student0", "student1"} <= set(kept) and len(kept) < 6
    page = (tmp_path / "out" / "summary.html").read_text()
    assert page.count("interrupted: not graded yet") == 6 - len(kept) and ">student5<" in page


# ---------------------------------------------------------------- the same table twice


def class_of_30(folder: Path) -> list[Path]:
    """Small submissions, right and wrong in many ways: bugs in modules.py, missing files, crashes, damaged ZIPs."""
    rng = random.Random(1)
    bugs = [mutant.bug for mutant in MUTANTS if mutant.file == "modules.py"]
    wrap = "\ndef _wrap(owner, name, f):\n    o = getattr(owner, name)\n    setattr(owner, name, lambda s, *a, **k: f(o, s, *a, **k))\n"
    paths = []
    folder.mkdir()
    for i in range(30):
        kind, path = rng.random(), folder / f"student{i:02d}_assignment1.zip"
        if kind < 0.7:
            modules = MODULES.replace("(self, in_features, out_features)", "(self, in_features, out_features, **k)")
            packed(path, modules=modules + wrap + rng.choice([*bugs, ""]), **({"mlp_numpy": MLP} if kind < 0.5 else {}))
        elif kind < 0.8:
            packed(path, modules=rng.choice(["import os; os._exit(0)", "1 / 0", "x =", "raise SystemExit"]))
        elif kind < 0.9:
            path.write_bytes(rng.randbytes(100))
        else:
            packed(path, modules=MODULES, mlp_numpy=MLP, custom_layernorm="class CustomLayerNormAutograd: pass")
        paths.append(path)
    return paths


@pytest.mark.slow
def test_a_class_of_30_gives_the_same_table_twice(tmp_path):
    rules = reduced(["1.2", "3.1"], scripts=False)
    paths = class_of_30(tmp_path / "class")
    found = []
    for name, order, jobs in (("a", paths, 2), ("b", paths[::-1], 3)):
        out = tmp_path / name
        if found:  # a class of its own would have inputs of its own, and numbers of these on its pages
            out.mkdir()
            shutil.copy(tmp_path / "a" / "seed", out)
        for record in grade(order, rules, out, jobs).values():
            write_student(out, record, rules)
        write_class(out, rules)
        found.append(without_seconds(out / "grades.csv"))
    assert len(found[0]) == 30 and found[0] == found[1]
    assert len({row["1.2"] for row in found[0]}) > 5
    for student in classroom.records(tmp_path / "a", rules):
        one, other = ((tmp_path / name / "students" / folder_name(student["student"]) / "feedback.html").read_text()
                      for name in "ab")
        assert one == other


# ---------------------------------------------------------------- merging


def fill(out: Path, change=lambda rows: None) -> None:
    header, rows = tables.read(out / "written.csv")
    for row in rows:
        row.update(dict.fromkeys(WRITTEN, "2"), **{"1.1d": "", "4b": ""})
    change(rows)
    (out / "written.csv").write_text(tables.to_csv([header, *([row[name] for name in header] for row in rows)]))


def test_form_has_a_row_a_student_and_no_points(out):
    rows = table(out / "written.csv")
    assert list(rows[0]) == ["student", *tables.form_columns(rubric.load())] and len(rows) == 4
    assert not any(row[name] for row in rows for name in list(row)[1:])


def test_merge_makes_the_final_table(out, capsys):
    fill(out)
    assert main("", ["--merge", "--out", str(out)]) == 0
    rows = {row["student"]: row for row in table(out / "final.csv")}
    doe = rows["doe_assignment1"]
    assert doe["1.1a"] == "2" and doe["1.1d"] == "0" and float(doe["total"]) == MODULES_ALONE + 6 * 2
    results = json.loads((out / "students" / "doe_assignment1" / "results.json").read_text())
    assert results["score"] == MODULES_ALONE + 12 and results["tests"][0]["score"] == 2
    assert "open /" not in (page := (out / "students" / "doe_assignment1" / "feedback.html").read_text())
    assert f"Total: {MODULES_ALONE + 12:g} / 100" in page


def test_a_ta_s_comment_reaches_the_student(out):
    fill(out, lambda rows: [row.update(comment="1.1a: <transpose> missing") for row in rows if "doe" in row["student"]])
    assert main("", ["--merge", "--out", str(out)]) == 0
    student = out / "students" / "doe_assignment1"
    assert "1.1a: &lt;transpose&gt; missing" in (student / "feedback.html").read_text()
    assert "1.1a: <transpose> missing" in json.loads((student / "results.json").read_text())["output"]
    assert "transpose" not in (out / "students" / "roe_assignment1" / "feedback.html").read_text()


def test_grading_again_leaves_merged_pages_alone_and_says_what_is_stale(graded, out, tmp_path, capsys):
    folder, _ = graded
    fill(out)
    assert main("", ["--merge", "--out", str(out)]) == 0
    page = out / "students" / "doe_assignment1" / "feedback.html"
    merged = page.read_text()
    assert main("", [str(folder / "doe_assignment1.zip"), "--out", str(out)]) == 0
    assert page.read_text() == merged and "run --merge again" not in capsys.readouterr().err
    packed(tmp_path / "doe_assignment1.zip", modules="raise SystemExit")
    assert main("", [str(tmp_path / "doe_assignment1.zip"), "--out", str(out)]) == 0
    assert "new grades of doe_assignment1: run --merge again" in capsys.readouterr().err
    assert "open /" in page.read_text()


def test_changed_points_need_no_grading(graded, out, tmp_path, capsys):
    folder, _ = graded
    text, check = rubric.DEFAULT.read_text(), '{ id = "linear_forward", points = 0.75,'
    assert text.count(check) == 1
    text = text.replace(check, check.replace("0.75,", "2.75,"))
    number = text.index('number = "1.2"')
    text = text[:number] + text[number:].replace("points = 15", "points = 17", 1)
    (tmp_path / "rubric.toml").write_text(text)
    flags = ["--rubric", str(tmp_path / "rubric.toml"), "--out", str(out)]
    assert main("", [str(folder / "doe_assignment1.zip"), *flags]) == 0
    assert f"doe_assignment1: {MODULES_ALONE + 2:g} code points" in (said := capsys.readouterr().err) and "graded before" in said
    fill(out)
    assert main("", ["--merge", *flags]) == 0
    doe = next(row for row in table(out / "final.csv") if row["student"] == "doe_assignment1")
    assert float(doe["1.2"]) == MODULES_ALONE + 2 and float(doe["total"]) == MODULES_ALONE + 2 + 6 * 2
    # other checks are another matter: what was graded without them says so and has no points
    (tmp_path / "rubric.toml").write_text(text.replace("linear_init", "linear_initial"))
    record = classroom.records(out, rubric.load(tmp_path / "rubric.toml"))[0]
    assert "graded by other checks" in record["questions"]["1.2"]["ungraded"] and summary.code_total(record) == 0


def test_merge_says_what_is_open(out, capsys):
    fill(out, lambda rows: rows[0].update({"3.2a": ""}))
    assert main("", ["--merge", str(out / "written.csv"), "--out", str(out)]) == 1
    assert "1 of 4 students" in (message := capsys.readouterr().err) and "3.2a" in message
    assert [row["total"] == "" for row in table(out / "final.csv")].count(True) == 1


def test_a_spreadsheet_s_csv_is_read(out):
    fill(out)
    text = (out / "written.csv").read_text().replace(",2,", ";1,5;").replace(",", ";").replace("1;5", "1,5")
    (out / "mine.csv").write_text("\ufeff" + text, encoding="utf-8")
    assert main("", ["--merge", str(out / "mine.csv"), "--out", str(out)]) == 0


@pytest.mark.parametrize("change, message", [
    (lambda rows: rows[0].update({"1.1a": "16"}), r"question 1.1a: '16' is not a number from 0 to 15"),
    (lambda rows: rows[0].update({"1.1a": "-1"}), "'-1' is not a number"),
    (lambda rows: rows[0].update({"2.2": "nan"}), "'nan' is not a number"),
    (lambda rows: rows[0].update({"2.2": "good"}), "'good' is not a number"),
    (lambda rows: rows[0].update(student="nobody"), "names 'nobody', of whom nothing was graded"),
    (lambda rows: rows[1].update(student=rows[0]["student"]), "twice")])
def test_wrong_cells_are_refused(out, capsys, change, message):
    fill(out, change)
    assert main("", ["--merge", "--out", str(out)]) == 2
    assert re.search(message, error := capsys.readouterr().err) and error.count("\n") == 1
    assert not (out / "final.csv").exists()


@pytest.mark.parametrize("content, message", [
    (b"", "no column 'student'"), (b"name,1.1a\nx,1\n", "no column 'student'"), (b"student,9.9\n", "column '9.9'"),
    (b"student,1.1a,1.1a\n", "column twice"), (b"student,1.1a\ndoe_assignment1,1,2,3\n", "line 2: 4 cells"),
    (b"\xff\xfe\x00", "not UTF-8"), (b"student\x81,1.1a", "not UTF-8"), (b"st\xe9\x00", "not UTF-8"), (b'student,1.1a\n"doe', "not CSV"), (None, "cannot be read")])
def test_malformed_tables_are_refused(out, capsys, content, message):
    path = out / "mine.csv"
    if content is not None:
        path.write_bytes(content)
    assert main("", ["--merge", str(path), "--out", str(out)]) == 2
    assert message in (error := capsys.readouterr().err) and error.count("\n") == 1


def test_a_table_that_excel_saved_as_csv_is_read_with_a_notice(out, capsys):
    """In Windows-1252, with a dash and an accent; the notice comes once."""
    path = out / "excel.csv"
    path.write_bytes("student;comment\r\ndoe_assignment1;na\u00efve \u2013 but right\r\n".encode("cp1252"))
    assert main("", ["--merge", str(path), "--out", str(out)]) == 1  # other questions are open
    assert capsys.readouterr().err.count("Windows-1252") == 1
    page = out / "students" / "doe_assignment1" / "feedback.html"
    assert "na\u00efve \u2013 but right" in page.read_text()


def test_points_of_a_ta_survive_another_run(out, graded):
    folder, _ = graded
    fill(out, lambda rows: rows[0].update(comment="well done"))
    before = (out / "written.csv").read_text()
    assert main("", [str(folder / "doe_assignment1.zip"), "--out", str(out)]) == 0
    assert (out / "written.csv").read_text() == before
