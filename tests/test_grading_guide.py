"""The guide for another course does what it says: its blocks, in a copy of the grader, grade its example."""

import csv
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from grading_help import ROOT, needs_confinement

from grading.starter import LISTING, local_imports
from grading.submission import DATA_UTILITIES

GUIDE = ROOT / "docs" / "grading-another-course.md"
pytestmark = [pytest.mark.grading]


def blocks() -> tuple[dict[str, str], list[str]]:
    """({file: text} of the blocks under a file's name, the others)."""
    text = GUIDE.read_text()
    named = dict(re.findall(r"^`([\w/.]+)`\n```\w+\n(.*?)^```", text, re.DOTALL | re.MULTILINE))
    others = [block for block in re.findall(r"^```\w*\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
              if block not in named.values()]
    return named, others


def insert(path: Path, before: str, line: str) -> None:
    """Add `line` before the only place of `before`."""
    text = path.read_text()
    assert text.count(before) == 1, f"{path.name} has {before!r} {text.count(before)} times"
    path.write_text(text.replace(before, line + before))


@pytest.fixture(scope="module")
def course(tmp_path_factory) -> Path:
    """A copy of the grader, and nothing else of the repository but what is handed out, with the guide's question."""
    root = tmp_path_factory.mktemp("course")
    shutil.copytree(ROOT / "grading", root / "grading", ignore=shutil.ignore_patterns("__pycache__"))
    handed_out = tomllib.loads(LISTING.read_text())["files"]
    for name in ("grade.py", "requirements.txt", "requirements-dev.txt", *local_imports(ROOT, [DATA_UTILITIES, *handed_out])):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, root / name)
    files, others = blocks()
    assert set(files) == {"grading/worker/probes_huber.py", "grading/inputs_huber.py", "grading/expected_huber.py",
                          "grading/checks_huber.py", "huber.toml", "huber.py"}
    for name, text in files.items():
        (root / name).write_text(text)
    expected, table = (next(re.match(r"(from grading import \w+)  # add to[^:]*: ", block) for block in others
                            if f"import {name}" in block) for name in ("expected_huber", "checks_huber"))
    insert(root / "grading" / "expected.py", "\n\ndef values", f"\n{expected[1]}\n")
    text = (root / "grading" / "expected.py").read_text().rstrip()
    (root / "grading" / "expected.py").write_text(f"{text} | expected_huber.values(inputs)\n")
    insert(root / "grading" / "questions.py", "\nQUESTIONS:", f"\n{table[1]}\n")
    insert(root / "grading" / "questions.py", "checks_4a.QUESTION)", "checks_huber.QUESTION, ")
    file, blank = next(re.findall(r"^(.+?)  +# add", block, re.MULTILINE) for block in others if "add to: files" in block)
    insert(root / "grading" / "starter.toml", '"modules.py", "custom_layernorm.py"', f"{file}, ")
    insert(root / "grading" / "starter.toml", '"modules.py" = ["LinearModule', f"{blank}\n")
    command = next(block for block in others if "--rubric" in block)
    assert command == "python grade.py submissions/*.zip --rubric huber.toml --out grades/\n"
    return root


def run(root: Path, *arguments: str | Path) -> subprocess.CompletedProcess:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    return subprocess.run([sys.executable, "-B", root / "grade.py", *arguments], capture_output=True, encoding="utf-8",
                          env=environment | {"PYTHONIOENCODING": "utf-8"}, cwd="/")


def grade(course: Path, tmp_path: Path, code: str) -> dict[str, str]:
    """The row of grades.csv of a hand-in whose huber.py is `code`, and its page as 'page'."""
    (tmp_path / "doe").mkdir()
    if code:
        (tmp_path / "doe" / "huber.py").write_text(code)
    else:
        (tmp_path / "doe" / "modules.py").write_text("")
    done = run(course, tmp_path / "doe", "--rubric", course / "huber.toml", "--out", tmp_path / "grades")
    assert done.returncode == 0, done.stderr
    with open(tmp_path / "grades" / "grades.csv", newline="") as file:
        row, = csv.DictReader(file)
    return {**row, "page": (tmp_path / "grades" / "students" / "doe" / "feedback.html").read_text()}


RIGHT = blocks()[0].get("huber.py", "")
FAULTS = {
    "the half": (("0.5 * error ** 2", "error ** 2"), 3, "The factor 1/2 of the quadratic part is missing."),
    "the mean of the value": (("linear)) / len(x)", "linear))"), 3, "It is summed over the batch, not averaged."),
    "the mean of the gradient": (("self.delta) / len(x)", "self.delta)"), 2, "The division by the batch size is missing."),
    "the cut": (("np.clip(x - y, -self.delta, self.delta)", "(x - y)"), 2, "large errors are not cut off at delta"),
    "something else": (("np.clip(x - y,", "np.clip(y - x,"), 2, "delta times its sign from there on"),
    "PyTorch": (("import numpy as np", "import numpy as np\nimport torch\ntorch.ones(1)"), 0, "torch"),
}


@needs_confinement
def test_a_right_hand_in_has_all_points(course, tmp_path):
    row = grade(course, tmp_path, RIGHT)
    assert row["1.4"] == "5" and "1.3" in row and "1.2" not in row and "Huber loss in NumPy" in row["page"]
    assert "missing" not in row["flags"]  # the files of questions that this course does not ask


@needs_confinement
@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_costs_its_points_and_is_named(course, tmp_path, fault):
    (right, wrong), points, sentence = FAULTS[fault]
    assert RIGHT.count(right) == 1
    row = grade(course, tmp_path, RIGHT.replace(right, wrong))
    assert row["1.4"] == str(points) and sentence in row["page"]


def test_every_mistake_shows_in_every_class(course):
    code = """
from grading import expected_huber, inputs
from grading.compare import close
for seed in range(200):
    values = expected_huber.values(inputs.Inputs(str(seed)))
    assert not [key for key in values if ": " in key and close(values[key.partition(": ")[0]], values[key])], seed
"""
    done = subprocess.run([sys.executable, "-B", "-c", code], cwd=course, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@needs_confinement
def test_a_missing_file_is_said(course, tmp_path):
    row = grade(course, tmp_path, "")
    assert row["1.4"] == "0" and "huber.py is not in the submission" in row["page"] and "huber.py" in row["flags"]


def test_the_handout_holds_no_formula(course, tmp_path):
    handout = tmp_path / "handout"
    done = run(course, "--starter", handout, "--rubric", course / "huber.toml")
    assert done.returncode == 0, done.stderr
    assert not [path.name for path in handout.rglob("*.py") if re.match("expected_|oracle", path.name)]
    assert (handout / "huber.py").read_text().count("raise NotImplementedError\n") == 2
    assert "| 1.4 | Value of the loss | 2 |\n| 1.4 | Gradient by the prediction | 3 |" in (handout / "README.md").read_text()
    done = run(handout, handout, "--check")
    assert done.returncode == 1 and "It is not implemented (huber.py, line " in done.stdout, done.stderr
    (handout / "huber.py").write_text(RIGHT)
    done = run(handout, handout, "--check", "1.4")
    assert done.returncode == 0 and "✓ Gradient by the prediction" in done.stdout, done.stdout + done.stderr
    done = subprocess.run([sys.executable, "-m", "pytest"], cwd=handout, capture_output=True, text=True, check=False)
    assert done.stdout.count("skipped") and "failed" not in done.stdout and "1.2 is not asked" in done.stdout, done.stdout


def test_one_checks_the_rubrics_questions_at_home(course, tmp_path):
    (tmp_path / "huber.py").write_text(RIGHT)
    for names in ([], ["1.4"]):
        done = run(course, tmp_path, "--rubric", course / "huber.toml", "--check", *names)
        assert done.returncode == 0 and done.stdout.startswith("1.4 Huber loss in NumPy\n  ✓ Value"), done.stderr
    for names, rules, message in ((["1.2"], course / "huber.toml", "'1.2' is none of the code questions 1.4 of the rubric"),
                                  ([], course / "huber.toml", "none of huber.py: go to the folder"),
                                  (["1.4"], course / "grading" / "rubric.toml", "'1.4' is none of the code questions 1.2")):
        folder = tmp_path if names else course / "grading"
        done = run(course, folder, "--rubric", rules, "--check", *names)
        assert done.returncode == 2 and message in done.stderr and done.stderr.count("\n") == 1, done.stderr


@pytest.mark.parametrize("module", ["expected_huber", "oracle"])
def test_a_handout_with_formulas_is_refused(course, tmp_path, module):
    shutil.copytree(course, tmp_path / "course")
    insert(tmp_path / "course" / "grading" / "checks_huber.py", "\n\ndef probes", f"from grading import {module}\n")
    done = run(tmp_path / "course", "--starter", tmp_path / "handout")
    assert done.returncode == 2 and not (tmp_path / "handout").exists()
    assert done.stderr == (f"grade.py: the handout would hold grading/{module}.py, with its formulas: no check may import "
                           "it; what checks need of it belongs in a file grading/inputs_*.py\n")


def test_places_that_the_guide_names_exist():
    for name in re.findall(r"`((?:grading|tests)/[\w/.]+\.\w+)`", GUIDE.read_text()):
        assert (ROOT / name).is_file() or "NAME" in name or name in blocks()[0], name


def test_every_file_of_the_grader_is_accounted_for():
    import grading

    account = set(re.findall(r"[\w/*.]+", grading.__doc__ or ""))
    for path in (ROOT / "grading").rglob("*.py"):
        name = path.relative_to(ROOT / "grading").with_suffix("").as_posix()
        if path.name != "__init__.py" and not name.startswith("handout/"):
            assert name in account or re.sub(r"_\w+$", "_*", name) in account, name
