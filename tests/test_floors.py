"""The house: a file imports only from floors below its own, and no two files import each other."""

import ast
import graphlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FLOORS = [  # a name is a file at the top level or a package
    {"imagefiles"},
    {"cifar10_utils", "modules", "custom_layernorm", "custom_batchnorm", "autodiff_numpy"},
    {"training"},
    {"mlp_numpy", "mlp_pytorch", "convnet_pytorch", "networks"},
    {"train_mlp_numpy", "train_mlp_pytorch", "train_convnet_pytorch", "train_mlp_autodiff", "train_transfer_pytorch"},
    {"plot_curves", "predict", "search_mlp_pytorch", "grade"},
    {"report"},
    {"make_submission"},
]
FLOOR = {name: number for number, floor in enumerate(FLOORS) for name in floor}
PACKAGES = ("imagefiles", "networks", "training", "report")
FILES = {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in sorted(
    [*ROOT.glob("*.py"), *(path for package in PACKAGES for path in (ROOT / package).glob("*.py"))])}
TORCH_FREE = {"flags", "datasets", "checkpoints", "curves", "metrics", "runs", "events", "machine", "console", "recipes", "resume", "stop", "folder", "run", "script"}


def imports(path: Path) -> set[str]:
    """Dotted names of what a file imports, wherever in it."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


@pytest.mark.parametrize("name", FILES)
def test_no_upward_import(name):
    own = name.partition(".")[0]
    assert own in FLOOR, f"give {own} a floor"
    for other in {module.partition(".")[0] for module in imports(FILES[name])} & set(FLOOR) - {own}:
        assert FLOOR[other] < FLOOR[own], f"{name} (floor {FLOOR[own]}) imports {other} (floor {FLOOR[other]})"


def test_no_circle():
    list(graphlib.TopologicalSorter({name: imports(path) & set(FILES) for name, path in FILES.items()}).static_order())


@pytest.mark.parametrize("name", sorted(TORCH_FREE))
def test_what_the_numpy_scripts_share_needs_no_torch(name):
    reached, todo = set(), [f"training.{name}"]
    while todo:
        if (module := todo.pop()) not in reached:
            reached.add(module)
            todo += imports(FILES[module]) & set(FILES)
            assert "torch" not in {other.partition(".")[0] for other in imports(FILES[module])}, module


@pytest.mark.parametrize("path", sorted(path for path in ROOT.glob("grading/**/*.py")
                                         if "handout" not in path.parts), ids=lambda path: path.name)
def test_the_grader_shares_nothing_with_what_it_grades(path):
    assert {name.partition(".")[0] for name in imports(path)} & set(FLOOR) <= {"cifar10_utils"}  # which reads the data
