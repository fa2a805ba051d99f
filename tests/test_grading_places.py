"""Each student has a place of their own in the tables and folders, whatever the files are called."""

import csv
import tarfile
import zipfile

import pytest
from grading_help import needs_confinement

from grading import classroom, cli, spreadsheets
from grading.cli import main
from grading.files import folder_name

pytestmark = [pytest.mark.grading, needs_confinement]
WIDE = "\N{HIRAGANA LETTER A}" * 83  # 249 bytes


def handed_in(folder, *names):
    """ZIP files that hold nothing of the assignment: they are graded at once."""
    folder.mkdir()
    for name in names:
        with zipfile.ZipFile(folder / f"{name}.zip", "w") as archive:
            archive.writestr("notes.txt", name)
    return [str(path) for path in sorted(folder.iterdir())]


def rows(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_two_files_of_one_name_are_two_students(tmp_path, capsys):
    """Such as what a TA has unpacked and packed again, which used to stop the class."""
    first, _ = handed_in(tmp_path / "in", "doe", "roe")
    with tarfile.open(tmp_path / "in/doe.tar.gz", "w:gz") as archive:
        archive.add(first, "notes.txt")
    (tmp_path / "in/doe").mkdir()
    out = tmp_path / "out"
    assert main("", [*map(str, sorted((tmp_path / "in").iterdir())), "--out", str(out), "--jobs", "1"]) == 1
    found = {row["student"]: row for row in rows(out / "grades.csv")}
    assert set(found) == {"doe", "doe zip", "doe tar.gz", "roe"}
    assert {name for name, row in found.items() if "another submission is called doe as well" in row["flags"]} == {
        "doe", "doe zip", "doe tar.gz"}


def test_a_name_does_not_reach_the_terminal_as_it_is(tmp_path, capsys):
    assert main("", [str(tmp_path / "red\x1b[31m.zip"), "--out", str(tmp_path / "out")]) == 2
    with pytest.raises(SystemExit):
        main("", ["--jobs", "\x1b[31m"])
    assert "\x1b" not in capsys.readouterr().err


@pytest.mark.parametrize("names", [
    ("Jan Smit", "Jan  Smit", "Jan\N{NO-BREAK SPACE}Smit", "Jan Smit "),
    ("Łoś", "Los\N{COMBINING ACUTE ACCENT}", "Loś"),  # two ways to write an accent
    (WIDE, WIDE[:-1] + "い", WIDE[:40], WIDE[:40] + "い"),
    ("a_b", f"{folder_name('a:b')}", "a:b"),  # the name that another's folder has
    ("graders", "people", "students", "seed"),  # what the grader's own files are called
    ("Doe", "doe", "DOE"), ("=1+1", "'=1+1", "1+1"), ("x\x1b[2Jy", "x\ny", "x y", "x_y")], ids=lambda names: names[0][:8])
def test_names_that_are_almost_the_same(names, tmp_path, capsys):
    paths = handed_in(tmp_path / "in", *names)
    out = str(tmp_path / "out")
    assert main("", [*paths, "--out", out, "--jobs", "1"]) == 1  # each has nothing that could be graded
    error = capsys.readouterr().err
    assert "\x1b[2J" not in error and "\x1b" not in error.replace("\x1b[A", "")
    grades = rows(tmp_path / "out" / "grades.csv")
    assert len(grades) == len({row["student"] for row in grades}) == len(names)
    assert len({row["feedback"] for row in grades}) == len(names)
    assert all((tmp_path / "out" / row["feedback"].removeprefix("'")).exists() for row in grades)
    main("", ["--merge", "--out", out])
    assert "Traceback" not in capsys.readouterr().err
    assert len(rows(tmp_path / "out" / "final.csv")) == len(names)


def test_two_links_to_one_folder_are_two_students(tmp_path):
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared" / "notes.txt").write_text("none")
    for name in ("doe", "roe"):
        (tmp_path / name).symlink_to(tmp_path / "shared")
    main("", [str(tmp_path / "doe"), str(tmp_path / "roe"), str(tmp_path / "." / "roe"), "--out", str(tmp_path / "out"), "--jobs", "1"])
    assert [row["student"] for row in rows(tmp_path / "out" / "grades.csv")] == ["doe", "roe"]


def test_a_record_that_is_lost_is_said_before_tables_are_written(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(classroom, "folder_name", lambda student: "one")
    monkeypatch.setattr(cli, "folder_name", lambda student: "one")
    paths = handed_in(tmp_path / "in", "doe", "roe")
    assert main("", [*paths, "--out", str(tmp_path / "out"), "--jobs", "1"]) == 2
    assert "no record of doe" in capsys.readouterr().err and not (tmp_path / "out" / "grades.csv").exists()


@pytest.mark.parametrize("text", ["=1+1", "doe;=cmd|'/C calc'!A0", "a, -b", "x;@SUM(A1)", "''=", "Doe, 'Jane", "-", "-3", "a;;=b",
                                  "O'Neill", "x; '=y"])
def test_no_part_of_a_cell_is_a_formula(text):
    shown = spreadsheets.cell(text)
    assert spreadsheets.number(text) is not None or not [part for separator in ";,|\t" for part in shown.split(separator)
                                                         if part.strip().startswith(("=", "+", "-", "@"))]
    assert spreadsheets.plain(shown) == text
