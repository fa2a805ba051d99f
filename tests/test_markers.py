"""`pytest -m q1_1a`: that question's tests and no others, and failures that a student can read."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.grading_help import ROOT

pytestmark = [pytest.mark.grading, pytest.mark.timeout(600)]
LAYERS = "test_modules.py"
FILES = {"q1_1a": {LAYERS}, "q1_1b": {LAYERS}, "q1_1c": {LAYERS}, "q1_1d": {LAYERS, "test_conv2d.py"},
         "q1_2": {LAYERS, "test_mlp_numpy.py"}, "q2_1": {"test_mlp_pytorch.py"}, "q3_1": {"test_layernorm.py"},
         "q3_2a": {"test_layernorm.py"}, "q3_2b": {"test_layernorm.py"}, "q3_2c": {"test_layernorm.py"},
         "q3_2d": {"test_layernorm.py"}, "q4a": {"test_convnet.py"}, "q4b": {"test_transfer.py"}}
PLUGIN = """
import sys
import pytest

class Marks:
    def pytest_collection_modifyitems(self, items):
        for item in items:
            print("item", item.path.name, item.nodeid.replace(" ", ""), *{mark.name for mark in item.iter_markers()})

sys.exit(pytest.main(["--collect-only", *sys.argv[1:]], plugins=[Marks()]))
"""


def collected(*arguments: str) -> list[tuple[str, str, set[str]]]:
    """(file, id, marks) of each test."""
    done = subprocess.run([sys.executable, "-c", PLUGIN, *arguments], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = [line.split()[1:] for line in done.stdout.splitlines() if line.startswith("item ")]
    return [(row[0], row[1], set(row[2:])) for row in rows]


@pytest.fixture(scope="module")
def tests() -> list[tuple[str, str, set[str]]]:
    """Every test of a file that names a question's mark; the others can have none."""
    return collected(*(str(path) for path in sorted((ROOT / "tests").glob("test_*.py"))
                       if re.search(r"mark\.q\d", path.read_text()) and path.name != Path(__file__).name))


def test_each_mark_is_on_its_questions_files_alone(tests):
    found: dict[str, set[str]] = {}
    for file, _, marks in tests:
        for mark in marks:
            if re.match(r"q\d", mark):
                found.setdefault(mark, set()).add(file)
    assert found == FILES
    registered = set(re.findall(r'"(q\d\w+):', (ROOT / "pyproject.toml").read_text()))
    assert registered == set(FILES)


def test_no_test_of_a_layer_belongs_to_two_questions(tests):
    for _, test, marks in tests:
        assert len({mark for mark in marks if re.match(r"q\d", mark)}) <= 1, test


def test_a_mark_selects_its_tests_without_importing_other_files(tests):
    wanted = {test for _, test, marks in tests if "q1_1d" in marks}
    assert {test for _, test, marks in collected("-m", "q1_1d") if "q1_1d" in marks} == wanted
    assert {file for file, _, _ in collected("-m", "q1_1d")} == FILES["q1_1d"]


@pytest.fixture(scope="module")
def package(tmp_path_factory) -> Path:
    """A copy of what the tests of a question need."""
    folder = tmp_path_factory.mktemp("package")
    for path in [*ROOT.glob("*.py"), ROOT / "pyproject.toml"]:
        shutil.copy(path, folder)
    for name in ("grading", "tests", "training", "imagefiles", "networks"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "handins"))
    return folder


def broken(package: Path, file: str, old: str, new: str, mark: str) -> list[str]:
    """What pytest prints of a question's tests with one piece of `file` replaced."""
    source = (ROOT / file).read_text()
    assert source.count(old) == 1
    (package / file).write_text(source.replace(old, new))
    bare = {name: value for name, value in os.environ.items()  # where CI is set, pytest shortens no comparison
            if name not in ("CI", "BUILD_NUMBER", "PYTEST_ADDOPTS")}
    try:
        done = subprocess.run([sys.executable, "-m", "pytest", "-m", mark, "-p", "no:cacheprovider", "-p", "no:xdist"],
                              cwd=package, capture_output=True, text=True, env=bare)
    finally:
        (package / file).write_text(source)
    assert done.returncode == 1, done.stdout + done.stderr
    for inside in ("site-packages", "tests/gradients.py", "tests/norm_checks.py", "tests/questions.py", "Traceback"):
        assert inside not in done.stdout
    return done.stdout.splitlines()


def test_a_missing_division_is_named(package):
    lines = broken(package, "modules.py", "return y / (-len(x) * x)", "return -y / x", "q1_1c")
    assert len(lines) < 60
    text = "\n".join(lines)
    for part in ("gradient of CrossEntropyModule: ", "\n    input  ", "\n    expected  ", "\n    received  ",
                 "what the grader says (python grade.py --check 1.2)",
                 "CrossEntropyModule: gradient:\n    The division by the batch size is missing."):
        assert part in text, text
    assert re.search(r"missing\.\n    largest relative error .*: expected \S+, received \S+\n", text)


def test_the_line_that_raises_is_shown(package):
    lines = broken(package, "modules.py", "np.matmul(dout.T, self.x, out", "np.matmul(dout, self.x, out", "q1_1a")
    assert any(re.fullmatch(r'modules\.py:\d+: np\.matmul\(dout, self\.x, .*', line) for line in lines)
    assert any(line.startswith("    ValueError: matmul") for line in lines) and len(lines) < 60
    assert not [line for line in lines if "ELU" in line or "SoftMax" in line]  # of other questions


def test_the_function_of_question_3(package):
    lines = broken(package, "custom_layernorm.py", "dgamma = product.sum(dim=0) ", "dgamma = product.mean(dim=0) ", "q3_2b")
    at = next(i for i, line in enumerate(lines) if "what the grader says" in line)
    assert any("averaged over the batch" in line or "not a mean" in line for line in lines[at:])


def test_what_only_the_package_asks_for_is_said_to_be_that(package):
    lines = broken(package, "modules.py", "        self.y = y\n        return y\n",
                   "        self.y = y\n        return y.astype(np.float64)\n", "q1_1c")
    assert any("asks for more than the assignment" in line for line in lines)
