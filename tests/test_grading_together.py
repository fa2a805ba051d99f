"""Several graders on one output folder share the class: nobody is graded twice, nothing is lost, and the tables are whole."""

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from grading_help import MODULES, ROOT, grade, needs_confinement, reduced, submission

from grading import archive, classroom, confinement, intake, locks
from grading.classroom import Classroom, submissions
from grading.confinement import ConfinementError, hides
from grading.submission import REFERENCE

pytestmark = [pytest.mark.grading, needs_confinement]
GRADER = """
import sys
sys.path[:0] = [{root!r}, {tests!r}]
from grading_help import reduced
from grading import cli, datasets, rubric
load, rules = rubric.load, reduced(["1.2"], scripts=False)
rubric.load = lambda path=None: rules if path else load()
datasets.TRAIN_IMAGES, datasets.TEST_IMAGES = 500, 100
sys.exit(cli.main("", sys.argv[1:]))
"""


def grader(*arguments: object) -> subprocess.Popen:
    """grade.py with one question."""
    program = GRADER.format(root=str(ROOT), tests=str(ROOT / "tests"))
    return subprocess.Popen([sys.executable, "-c", program, *map(str, arguments), "--jobs", "1"], stderr=subprocess.PIPE,
                            text=True)


def class_of(folder: Path, number: int, code: str = "") -> list[Path]:
    return [submission(folder / f"student{i}", modules=f"{code}\n{MODULES}") for i in range(number)]


def students(path: Path) -> list[str]:
    with open(path, newline="") as file:
        return [row["student"] for row in csv.DictReader(file)]


def test_two_graders_share_a_class(tmp_path):
    paths, out = class_of(tmp_path / "in", 5), tmp_path / "out"
    started = [grader(*order, "--out", out) for order in (paths, paths[::-1])]
    said = [process.communicate(timeout=500)[1] for process in started]
    assert [process.returncode for process in started] == [0, 0], said
    graded = re.findall(r"^(student\d): .* s$", "\n".join(said), re.MULTILINE)
    assert sorted(graded) == [path.name for path in paths]  # each by one of them
    before = re.findall(r"^(student\d): .* s, graded before$", "\n".join(said), re.MULTILINE)
    assert sorted(before) == sorted(graded)  # and found there by the other
    assert sum("the last of them writes the tables" in text for text in said) <= 1
    assert students(out / "grades.csv") == students(out / "written.csv") == [path.name for path in paths]
    assert not list(out.rglob("*.part"))


def test_a_student_whose_grader_is_killed_is_graded_by_another(tmp_path):
    paths, out = class_of(tmp_path / "in", 1, "import time; time.sleep(0.3)"), tmp_path / "out"
    first = grader(*paths, "--out", out)
    give_up = time.time() + 120
    while not (out / classroom.LOCKS / "students" / "student0").exists():
        assert time.time() < give_up and first.poll() is None
        time.sleep(0.05)
    second = grader(*paths, "--out", out)
    time.sleep(1)
    first.kill()
    first.communicate()
    said = second.communicate(timeout=300)[1]
    assert second.returncode == 0 and "graded before" not in said
    assert students(out / "grades.csv") == ["student0"]


def test_only_the_last_grader_is_the_last(tmp_path):
    rules = reduced(["1.2"], scripts=False)
    with Classroom(tmp_path, rules) as one:
        with Classroom(tmp_path, rules) as other:
            assert not one.is_last() and other.is_last()
        assert one.is_last()


def test_what_a_killed_grader_leaves_in_the_temporary_folder_is_removed(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    foreign = tmp_path / f"{locks.PREFIX}of-somebody"  # without the mark of a grader
    foreign.mkdir()
    code = (f"import sys, os, tempfile; sys.path.insert(0, {str(ROOT)!r}); tempfile.tempdir = {str(tmp_path)!r}\n"
            "from grading import locks\nfolder, held = locks.work_folder(); (folder / 'x').touch()\nprint(folder, flush=True)\n")
    left = subprocess.run([sys.executable, "-c", code + "os.kill(os.getpid(), 9)"], capture_output=True, text=True)
    assert left.returncode == -signal.SIGKILL and Path(left.stdout.strip(), "x").exists()
    with subprocess.Popen([sys.executable, "-c", code + "input()"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                          text=True) as running:
        in_use = Path(running.stdout.readline().strip())
        assert not Path(left.stdout.strip()).exists()  # it has tidied up
        folder, held = locks.work_folder()
        assert in_use.exists() and foreign.exists()
        running.stdin.write("\n")
    held.close()
    assert {path.name for path in tmp_path.iterdir()} == {folder.name, in_use.name, foreign.name}


def test_a_submission_that_changes_while_it_is_graded(tmp_path, monkeypatch):
    """The hash in the record is that of the copy which was graded."""
    rules, folder = reduced(["1.2"], scripts=False), submission(tmp_path / "doe", modules="raise ValueError('old')")
    take_in, changes = intake.take_in, iter([MODULES])

    def change(*arguments) -> None:
        take_in(*arguments)
        for text in changes:
            (folder / "modules.py").write_text(text)

    monkeypatch.setattr(intake, "take_in", change)
    record = grade([folder], rules, tmp_path / "out")["doe"]
    assert record["submission"] == archive.digest(folder) and "old" not in str(record["questions"])
    changes = (f"{MODULES}\n# {i}" for i in range(100))

    def keep_changing(*arguments) -> None:
        take_in(*arguments)
        (folder / "modules.py").write_text(next(changes))

    monkeypatch.setattr(intake, "take_in", keep_changing)
    (folder / "modules.py").write_text("x = 1")
    record = grade([folder], rules, tmp_path / "out")["doe"]
    assert record["questions"]["1.2"]["ungraded"] and "changed each time" in record["error"]


# ---------------------------------------------------------------- what an environment must not hold


def test_an_environment_that_holds_the_reference_or_the_data_is_refused(tmp_path, monkeypatch):
    rules, folder = reduced(["1.2"], scripts=False), submission(tmp_path / "class" / "doe")
    for prefix in (tmp_path / "class", tmp_path / "data", tmp_path / "out", REFERENCE):
        prefix.mkdir(exist_ok=True)
        with monkeypatch.context() as patch:
            patch.setattr(sys, "prefix", str(prefix))
            with (pytest.raises(ConfinementError, match="which submissions can read") as caught,
                  Classroom(tmp_path / "out" / "grades", rules, data_dir=tmp_path / "data") as room):
                room.grade(submissions([folder]), lambda *_: None)
            assert "\n" not in str(caught.value)
    assert not (tmp_path / "out" / "grades" / "students").exists()


def test_a_copy_of_the_reference_among_the_libraries_is_found(tmp_path, monkeypatch):
    monkeypatch.setattr(classroom.sysconfig, "get_path", lambda name, vars: str(tmp_path))
    assert classroom.copies() == []
    (tmp_path / "modules.py").write_text("x = 1\n")  # of another package
    shutil.copy(REFERENCE / "custom_layernorm.py", tmp_path)
    assert classroom.copies() == [tmp_path / "custom_layernorm.py"]
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    with pytest.raises(ConfinementError, match=r"custom_layernorm.py lies in"):
        hides(classroom.copies())


def test_workers_of_two_graders_are_different_users(monkeypatch):
    used = os.getuid()
    assert confinement.draw_user(range(used, used + 2)) == used + 1
    assert len({confinement.draw_user() for _ in range(20)}) > 10


# ---------------------------------------------------------------- a cluster


def test_the_array_of_a_cluster_grades_a_class(tmp_path):
    """cluster/grade.sbatch as two tasks of SLURM run it, with a grade.py that has one question."""
    paths = class_of(tmp_path / "in", 3)
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    (tmp_path / ".venv" / "bin" / "activate").write_text(f'PATH="{Path(sys.executable).parent}:$PATH"\n')
    (tmp_path / "grade.py").write_text(GRADER.format(root=str(ROOT), tests=str(ROOT / "tests")))
    script = ROOT / "cluster" / "grade.sbatch"
    assert re.search(r"^#SBATCH --array=\d+-\d+$", script.read_text(), re.MULTILINE)
    tasks = [subprocess.Popen(["bash", script, *paths, "--out", "grades"], cwd="/", stderr=subprocess.PIPE, text=True, env={
        **os.environ, "SLURM_SUBMIT_DIR": str(tmp_path), "SLURM_CPUS_PER_TASK": "1", "SLURM_ARRAY_TASK_ID": str(i)})
        for i in range(2)]
    said = [task.communicate(timeout=500)[1] for task in tasks]
    assert [task.returncode for task in tasks] == [0, 0], said
    assert len(re.findall(r"^student\d: .* s$", "\n".join(said), re.MULTILINE)) == 3
    assert students(tmp_path / "grades" / "grades.csv") == [path.name for path in paths]
    assert json.loads((tmp_path / "grades" / "students" / "student2" / "record.json").read_text())["error"] == ""


def test_copies_of_the_reference_are_found_in_every_environment_that_is_shown(tmp_path, monkeypatch):
    """In that which the environment is made from, and in a package there, too."""
    library = tmp_path / "lib/python3/site-packages"
    (library / "course").mkdir(parents=True)
    real = classroom.sysconfig.get_path
    monkeypatch.setattr(classroom.sys, "base_prefix", str(tmp_path))
    monkeypatch.setattr(classroom.sysconfig, "get_path", lambda name, vars: (
        str(library) if vars["base"] == str(tmp_path) else real(name, vars=vars)))
    assert classroom.copies() == []
    for place in (library, library / "course"):
        shutil.copy(REFERENCE / "modules.py", place)
    (library / "course/mlp_numpy.py").write_text("another file of that name")
    assert sorted(classroom.copies()) == [library / "course/modules.py", library / "modules.py"]


def test_a_class_has_a_seed_where_a_file_system_has_no_links(tmp_path, monkeypatch):
    def link(*_):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(classroom.os, "link", link)
    seed = classroom.class_seed(tmp_path / "grades")
    assert classroom.class_seed(tmp_path / "grades") == seed != classroom.class_seed(tmp_path / "other")
    assert [path.name for path in (tmp_path / "grades").iterdir()] == ["seed"]
