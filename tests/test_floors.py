"""The house: a file imports only from floors below its own, and no file outgrows one reading."""

import ast
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FLOORS = [
    {"cifar10_pickle", "cifar10_download", "checkpoints", "flags", "machine"},
    {"cifar10_files", "curves"},
    {"cifar10_standin"},
    {"cifar10_utils", "modules", "custom_layernorm", "custom_batchnorm", "autodiff_numpy"},
    {"mlp_numpy", "mlp_pytorch", "convnet_pytorch", "studynet_pytorch", "transfer_models", "mnist_utils",
     "augment_pytorch", "muon_pytorch"},
    {"training"},
    {"distributed_pytorch"},
    {"training_pytorch"},
    {"train_mlp_numpy", "train_mlp_pytorch", "train_convnet_pytorch", "train_mlp_autodiff", "train_transfer_pytorch"},
    {"plot_curves", "experiments", "search_mlp_pytorch", "build_report", "inspect_runs", "grade"},
    {"make_submission"},
]
FLOOR = {module: number for number, floor in enumerate(FLOORS) for module in floor}
MODULES = sorted(path.stem for path in ROOT.glob("*.py"))


def imports(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.split(".")[0])
    return names


@pytest.mark.parametrize("module", MODULES)
def test_no_upward_import(module):
    assert module in FLOOR, f"give {module}.py a floor"
    for other in imports(ROOT / f"{module}.py") & set(FLOOR):
        assert FLOOR[other] < FLOOR[module], f"{module} (floor {FLOOR[module]}) imports {other} (floor {FLOOR[other]})"


@pytest.mark.parametrize("path", sorted(path for path in ROOT.glob("grading/**/*.py")
                                         if "handout" not in path.parts), ids=lambda path: path.name)
def test_the_grader_shares_nothing_with_what_it_grades(path):
    assert imports(path) & set(FLOOR) <= {"cifar10_utils"}  # which reads the data


def test_no_file_over_400_lines():
    listed = subprocess.run(["git", "ls-files", "*.py"], cwd=ROOT, capture_output=True, text=True, check=False).stdout
    files = [ROOT / name for name in listed.split()] or list(ROOT.glob("**/*.py"))
    assert files
    assert not [(f.name, n) for f in files if f.exists() and (n := len(f.read_text().splitlines())) > 400]
