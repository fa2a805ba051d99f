"""The handout of `--starter`: no solution in it, everything in it works, and its checks say what the grader says."""

import ast
import io
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from grading import expected, home, rubric, starter
from grading.files import OutputError
from grading.inputs import Inputs
from grading.questions import QUESTIONS
from tests.grading_help import ROOT
from tests.handin_table import RIGHT, source
from tests.test_grading_home import verdicts

pytestmark = [pytest.mark.grading, pytest.mark.timeout(600)]
SCRIPTS = ["train_mlp_numpy.py", "train_mlp_pytorch.py", "train_convnet_pytorch.py"]
WORK = ["modules.py", "mlp_numpy.py", "mlp_pytorch.py", "custom_layernorm.py", "convnet_pytorch.py", *SCRIPTS]
# what the reference has in these, students write
SOLUTIONS = {"modules.py": ("LinearModule", "ELUModule", "SoftMaxModule", "CrossEntropyModule", "Conv2dModule"),
             "mlp_numpy.py": ("MLP",), "mlp_pytorch.py": ("MLP",), "convnet_pytorch.py": ("PreActBlock", "ConvNet"),
             "custom_layernorm.py": ("CustomLayerNormAutograd", "CustomLayerNormManualFunction",
                                     "CustomLayerNormManualModule"),
             "train_mlp_numpy.py": ("evaluate", "train"), "training/trainer.py": ("evaluate", "Trainer", "train_classifier"),
             "training/run.py": ("accuracy",), "grading/oracle.py": None, "grading/expected_mlp.py": None,
             "grading/expected_1_2.py": None, "grading/expected_3.py": None}
GIVEN = {"super().__init__()", "self.x = x", "optimizer.zero_grad()", "optimizer.step()",
         "_check_dtype(self, x)"}  # nobody's secret
# the answers of the written questions, in symbols and in code
ANSWERS = re.compile(r"dL/d\S+ += |Jacobian|diag\(|yᵀ|G_s|1ᵀ|dout ?@|dout\.T|@ ?dout|-T */ *X|dY ?∘|"
                     r"\(dL/dY\)|np\.exp\(x\)|expm1|keepdims=True\) *[*)]")


@pytest.fixture(scope="module")
def handout(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("handout") / "handout"
    starter.write_starter(folder, ROOT)
    return folder


def python(folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, *arguments], cwd=folder, capture_output=True, encoding="utf-8", check=False)


def statements(tree: ast.AST) -> set[str]:
    """Every statement that holds no other, as Python writes it; no docstrings."""
    return {ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.stmt) and not hasattr(node, "body")
            and not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))
            and not isinstance(node, ast.Import | ast.ImportFrom | ast.Raise)}


def test_no_statement_of_a_solution_is_in_it(handout):
    secret = set()
    for name, parts in SOLUTIONS.items():
        tree = ast.parse((ROOT / name).read_text(encoding="utf-8"))
        nodes = [node for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)
                 and (parts is None or node.name in parts)]
        assert parts is None or len(nodes) == len(parts)
        secret |= set().union(*map(statements, nodes))
    secret = {text for text in secret if len(text) > 12} - GIVEN
    assert len(secret) > 150 and "np.matmul(dout.T, self.x, out=self.grads['weight'])" in secret
    given = {"modules.py": {"return np.where(x > 0, x, self.neg_slope * x)"}}
    for path in handout.rglob("*.py"):
        found = statements(ast.parse(path.read_text(encoding="utf-8"))) & secret
        assert not found - given.get(path.name, set()), path


def test_no_answer_is_in_its_texts(handout):
    assert ANSWERS.search("dL/dW = (dL/dY)ᵀ X") and ANSWERS.search("return dout @ w") and ANSWERS.search("expm1(x)")
    for path in handout.rglob("*"):
        if path.suffix in (".py", ".md", ".toml"):
            for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
                assert not ANSWERS.search(line), f"{path.name}:{number}: {line}"
    names = {path.relative_to(handout).as_posix() for path in handout.rglob("*.py")}
    assert not [name for name in names if "oracle" in name or "expected_" in name or "batchnorm" in name]


def test_its_numbers_are_the_graders(handout):
    with np.load(handout / "grading/expected.npz", allow_pickle=False) as file:
        found = {name: file[name] for name in file.files}
    wanted = expected.values(Inputs())
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        np.testing.assert_array_equal(found[name], value)


def test_everything_it_imports_is_there(handout):
    required = {re.split(r"\W", line)[0] for line in (handout / "requirements.txt").read_text().splitlines()}
    assert required == {"numpy", "torch", "matplotlib", "tqdm", "pytest"}
    for path in handout.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            modules = ([alias.name for alias in node.names] if isinstance(node, ast.Import) else
                       [node.module or ""] if isinstance(node, ast.ImportFrom) else [])
            for module in modules:
                top = module.partition(".")[0]
                here = (handout / module.replace(".", "/")).with_suffix(".py").exists() or (
                    handout / module.replace(".", "/")).is_dir()
                assert here or top in required or top in sys.stdlib_module_names, f"{path.name} imports {module}"
    done = python(handout, "-c", f"import {', '.join(name[:-3] for name in WORK)}")
    assert done.returncode == 0, done.stderr
    for script in [*SCRIPTS, "grade.py", "cifar10_utils.py"]:
        done = python(handout, script, "--help")
        assert done.returncode == 0 and "usage:" in done.stdout, done.stderr


def test_signatures_and_docstrings_are_there(handout):
    for name in WORK:
        blank = dict(starter.functions(ast.parse((handout / name).read_text(encoding="utf-8"))))
        for full, node in blank.items():
            if "NotImplementedError" in ast.unparse(node):
                assert ast.unparse(node.body[-1]) == "raise NotImplementedError"
                assert full.endswith("__init__") or ast.get_docstring(node) or name == "convnet_pytorch.py", full
        reference = {full.rpartition(".")[2] for full, _ in starter.functions(ast.parse((ROOT / name).read_text()))}
        if name not in SCRIPTS:
            assert {full.rpartition(".")[2] for full in blank} <= reference
    text = (handout / "modules.py").read_text(encoding="utf-8")
    assert "  \n" not in text and "\n\n\n        " not in text and not re.search(r" $", text, re.MULTILINE)


def test_what_is_not_asked_for_is_given(handout):
    code = ("import numpy as np, modules as m; x = np.array([[-1., 2.]])\n"
            "for kind in (m.ReLUModule, m.LeakyReLUModule, m.TanhModule, m.SigmoidModule):\n"
            "    one = kind(); one.forward(x); one.backward(x)\n"
            "for call in (lambda: m.Conv2dModule(1, 1, 2), lambda: m.ELUModule().forward(x)):\n"
            "    try: call()\n    except NotImplementedError: print('blank')\n")
    done = python(handout, "-c", code)
    assert done.stdout.split() == ["blank"] * 2, done.stderr


def test_its_readme_names_every_check_and_command(handout):
    text = (handout / "README.md").read_text(encoding="utf-8")
    for row in rubric.load().code:
        for check in row.checks:
            assert (f"| {row.number} | {check.title} |" in text) == bool(check.points)
    commands = re.findall(r"^python (\S+\.py)(.*?)(?:\s{2,}#.*)?$", text, re.MULTILINE)
    assert {name for name, _ in commands} == {"grade.py", "cifar10_utils.py"}
    assert all((handout / name).is_file() for name, _ in commands)
    assert "<!--" not in text and "grade.py --check 1.2" in text


def test_the_blank_handout_is_not_implemented(handout):
    done = python(handout, "grade.py", "--check", "1.2", "2.1", "3", "4a", "train_mlp_numpy.py")
    assert done.returncode == 1 and "Traceback" not in done.stdout + done.stderr
    sections = done.stdout.split("\n\n")
    assert sections[-1].startswith("to fix: ")
    for section in sections[:-1]:
        found = verdicts(section)
        common = re.search(r"^  It is not implemented \(\w+\.py, line \d+\)\.$", section, re.MULTILINE)
        for title, text in found.items():
            assert text[0] in "✗•", title
            assert common or "It is not implemented" in text, title
    assert sum(len(verdicts(section)) for section in sections) > 40


def test_the_probes_hold_no_step_of_an_optimizer(handout):
    for path in (handout / "grading" / "worker").glob("*.py"):
        assert not re.search(r"\.step\(|\.zero_grad\(|loss\.backward\(", path.read_text()), path.name


def pasted(handout: Path, folder: Path, files: dict[str, str]) -> Path:
    shutil.copytree(handout, folder)
    for name, text in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    return folder


REFERENCE = {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
             for pattern in ("*.py", "training/*.py", "networks/*.py", "imagefiles/*.py") for path in ROOT.glob(pattern)
             if path.name != "grade.py"}


def test_the_reference_pasted_into_it_passes(handout, tmp_path):
    folder = pasted(handout, tmp_path / "doe", REFERENCE)
    done = python(folder, "grade.py", "--check", "1.2", "2.1", "3", "4a", SCRIPTS[1])
    assert done.returncode == 0, done.stdout + done.stderr
    found = [mark for section in done.stdout.split("\n\n") for mark in verdicts(section).values()]
    assert set(found) == {"✓"} and len(found) > 40


def test_a_students_solution_pasted_into_it_passes_with_its_script(handout, tmp_path):
    name = next(name for name, files in RIGHT.items() if "utils.py" not in files)
    files = {file: source(name, file) for file in WORK}
    done = python(pasted(handout, tmp_path / "doe", files), "grade.py", "--check", "1.2", "3.1", SCRIPTS[0])
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_bug_is_told_as_the_grader_tells_it(handout, tmp_path):
    right = "return y / (-len(x) * x)"
    assert REFERENCE["modules.py"].count(right) == 1
    folder = pasted(handout, tmp_path / "doe", REFERENCE | {
        "modules.py": REFERENCE["modules.py"].replace(right, "return -y / x")})
    done = python(folder, "grade.py", "--check", "1.2")
    text = verdicts(done.stdout)["CrossEntropyModule: gradient"]
    assert done.returncode == 1 and text.startswith("✗ The division by the batch size is missing. largest relative")
    here = subprocess.run([sys.executable, str(ROOT / "grade.py"), str(folder), "--check", "1.2"], capture_output=True,
                          encoding="utf-8", env={"PYTHONIOENCODING": "utf-8"}, check=False)
    assert here.stdout == done.stdout  # the package's checks, with the formulas in reach, say the same


@pytest.mark.parametrize("hosted", ["", "true"])
def test_pytest_says_what_the_check_says(handout, tmp_path, monkeypatch, hosted):
    """With a mark, of that question alone: what is blank, what is right, and a bug in the sentence of the grader.

    Under continuous integration (`CI` is set) pytest's summary gives messages whole: they are not said twice.
    """
    monkeypatch.delenv("BUILD_NUMBER", raising=False)
    monkeypatch.setenv("CI", hosted)
    names = re.findall(r"^    (q\w+):", (handout / "pytest.ini").read_text(), re.MULTILINE)
    assert names == list(home.PYTEST_MARKS)

    def found(folder: Path, mark: str) -> list[str]:
        return python(folder, "-m", "pytest", "-m", mark).stdout.splitlines()

    assert any("It is not implemented (modules.py, line " in line for line in found(handout, "q1_1b"))
    right = "return y / (-len(x) * x)"
    folder = pasted(handout, tmp_path / "doe", {"modules.py": REFERENCE["modules.py"].replace(right, "return -y / x")})
    lines = found(folder, "q1_1c")
    assert lines.count("    The division by the batch size is missing.") == 1
    assert lines[-1].startswith("1 failed, 8 deselected")
    assert not any(".py:" in line for line in lines)  # no frames
    assert found(folder, "q1_1b")[-1].startswith("1 passed, 8 deselected")


def test_wrong_input_is_one_line(handout):
    done = python(handout, "grade.py", "--check", "9")
    assert done.returncode == 2 and done.stderr.startswith("grade.py: '9' is none of the code questions")
    assert done.stderr.count("\n") == 1


def test_files_that_are_there_are_kept(handout):
    with pytest.raises(OutputError, match="exists already"):
        starter.write_starter(handout, ROOT)


def test_a_function_to_leave_out_must_be_there():
    text = "def a():\n    pass\n\n\n@b\ndef c():\n    pass\n\n\nd = 1\n"
    assert starter.without(text, ["c"], "x.py") == "def a():\n    pass\n\n\nd = 1\n"
    with pytest.raises(starter.StarterError, match="no function 'e'"):
        starter.without(text, ["e"], "x.py")


def test_the_table_of_requirements_is_of_what_is_imported():
    assert starter.required(ROOT, {"a.py": "import numpy.linalg\nfrom tqdm import tqdm\n"}).split() == [
        "numpy>=2.0", "tqdm>=4.66"]
    assert isinstance(np.load(io.BytesIO(starter.recorded()))["1.2 linear forward"], np.ndarray)
    assert set(QUESTIONS) == {row.number for row in rubric.load().code}
