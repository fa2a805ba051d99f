"""Every command of the README, of docs/ and of the modules' docstrings is run as it stands, cut short, in a folder that has what
it names: a few images, a few steps, the flags it states in force. A command that is of no kind known here fails.

What cannot be run is tried another way, and the line above its function says why.
"""

import ast
import contextlib
import functools
import importlib
import io
import json
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from cifar10_folders import write_batches
from packaging.requirements import Requirement
from PIL import Image
from script_runs import ROOT, interrupt_at
from test_mnist import arrays, idx
from torch.distributed.run import parse_args
from torchvision.models import get_model

import grade
import make_submission
import predict
import training.run
from grading import cli, home
from imagefiles import cifar10_download, cifar10_standin
from report import build_report, experiments
from training.script import parse_flags

README = (ROOT / "README.md").read_text()
PAGES = [README, *((ROOT / "docs" / f"{name}.md").read_text() for name in ("training", "grading", "speed", "structure"))]
MARKERS = r"`(q\d\w+)`(?: to `(q\d\w+)`)?"
PROGRAM = r"(?:[A-Z]\w*=\S+ )?(?:python3?|pytest|make|torchrun|sbatch|source|bash|sudo|apt|pip|git|conda|docker) "
LONGEST = {"max_steps": 2, "epochs": 1, "batch_size": 20, "validation_size": 10, "linear_probe": 1, "trials": 2,
           "repeats": 1, "eval_images": 5}  # what is above is put down to it; nothing else of a command is changed
DATA, BEST, SMALL = "cifar10/cifar-10-batches-py", "results/search/best.json", "/tmp/small"


# ---------------------------------------------------------------- the commands


def of_readme(text: str) -> list[str]:
    """Every line of a shell's fenced blocks, and what begins with a program's name in the text."""
    text = re.sub(r"<!-- bench -->.*?<!-- /bench -->", "", text, flags=re.S)  # what a command printed
    blocks = blocks_of(text, "")
    inline = re.findall(rf"`({PROGRAM}[^`\n]+)`", re.sub(r"^```.*?^```", "", text, flags=re.S | re.M))
    return [line for block in blocks for line in block.replace("\\\n", " ").splitlines()] + inline


def blocks_of(text: str, language: str) -> list[str]:
    return [block for name, block in re.findall(r"^```(\w*)\n(.*?)^```", text, flags=re.S | re.M) if name == language]


def of_docstring(path: Path) -> list[str]:
    """The indented lines that begin with a program's name."""
    text = ast.get_docstring(ast.parse(path.read_text()), clean=False) or ""
    return re.findall(rf"^ {{4}}({PROGRAM}.+)$", text.replace("\\\n", " "), flags=re.M)


def bare(line: str) -> str:
    return " ".join(re.sub(r"(^|\s)#.*", "", line).split())


FOUND = [*(line for text in PAGES for line in of_readme(text)), *(line for path in [*sorted(ROOT.glob("*.py")), *sorted(ROOT.glob("report/*.py"))]
         for line in of_docstring(path))]
COMMANDS = list(dict.fromkeys(filter(None, map(bare, FOUND))))


# ---------------------------------------------------------------- the folder in which they are run


@pytest.fixture(scope="module")
def few(tmp_path_factory):
    """As few images as networks with convolutions take in seconds."""
    folder = tmp_path_factory.mktemp("few") / "cifar-10-batches-py"
    cifar10_standin.make_standin(folder, train_size=40, test_size=10, seed=0)
    return folder


@pytest.fixture
def shop(command, standin, few, tmp_path, monkeypatch):
    """The working directory, with data where the scripts look for them, but for commands that put them there."""
    monkeypatch.chdir(tmp_path)
    for name in ("CIFAR10_DIR", "MNIST_DIR", "CIFAR10_URL"):
        monkeypatch.delenv(name, raising=False)
    if not re.search(r"utils\.py (fetch|standin)", command):
        Path(DATA).parent.mkdir()
        for name in (DATA, "DIR"):
            Path(name).symlink_to(few if re.search("convnet|transfer", command) else standin)
    Path("mnist").mkdir()
    for name, array in arrays().items():
        Path("mnist", name).write_bytes(idx(array))
    yield monkeypatch
    for path in tmp_path.glob("**/*.pt*"):  # checkpoints and weights of a hundred megabytes
        path.unlink()


def shell(patch, script: str, flags: list[str]) -> int:
    """`python script.py flags` in this process; its exit status."""
    patch.setattr(sys, "argv", ["", *flags])
    with pytest.raises(SystemExit) as stop:
        if (ROOT / f"{script}.py").exists():
            runpy.run_path(str(ROOT / f"{script}.py"), run_name="__main__")
        else:
            patch.delitem(sys.modules, f"report.{script}", raising=False)  # another test may have imported it
            runpy.run_module(f"report.{script}", run_name="__main__", alter_sys=True)
    return stop.value.code


def understood(script: str, flags: list[str]):
    return parse_flags(importlib.import_module(script).Config, "", flags)


def shortened(script: str, flags: list[str]) -> list[str]:
    config = understood(script, flags)
    idle = {"max_steps" if config.epochs else "epochs", *(["linear_probe"] if getattr(config, "freeze", "") == "backbone" else [])}
    too_long = [name for name, most in LONGEST.items() if getattr(config, name, 0) > most and name not in idle]
    return [*flags, *(word for name in too_long for word in (f"--{name}", str(LONGEST[name])))]


def run(patch, script: str, folder: str, stopped: bool = False) -> None:
    """A run folder, of a finished run or of one that was stopped after a step."""
    with patch.context() as inner:
        if stopped:
            interrupt_at(inner, training.run.Run, "record", 1)
        flags = shortened(script, ["--output_dir", folder])
        assert shell(inner, script, flags) == (130 if stopped else 0)


def make_what_is_named(patch, words: list[str]) -> None:
    """What a command needs and does not make: runs, checkpoints, what a search found, weights."""
    for word in dict.fromkeys(words):
        if found := re.fullmatch(r"results/(\w+)/<time>", word):
            run(patch, found[1], word, stopped="--resume" in words)
        elif word in ("RUN", "report/results/mlp-numpy/defaults-seed42"):
            run(patch, "train_mlp_numpy" if "numpy" in word else "train_mlp_pytorch", word)
        elif word in ("cat.png", "dog.jpg"):
            Image.new("RGB", (60, 40)).save(word)
        elif word == "ELSEWHERE/last.pt":
            Path("ELSEWHERE").mkdir()
            Path("RUN/last.pt").rename(word)
        elif word == BEST:
            search(patch, "search_mlp_pytorch", ["--output_dir", str(Path(BEST).parent)])
        elif word == "resnet18":  # where torchvision has put what it fetched
            patch.setattr(torch.hub, "get_dir", lambda: "hub")
            Path("hub/checkpoints").mkdir(parents=True)
            torch.save(get_model(word, weights=None).state_dict(), "hub/checkpoints/resnet18-f37072fd.pth")
        elif word.endswith(".pth"):
            torch.save(get_model(word.rpartition("-")[0], weights=None).state_dict(), word)


# ---------------------------------------------------------------- python script.py, by script


def train(patch, script: str, flags: list[str]) -> None:
    flags = shortened(script, flags)
    wanted = vars(understood(script, flags))
    assert shell(patch, script, flags) == 0
    [summary] = Path("results").glob(f"{script}/*/summary.json")
    used = json.loads((summary.parent / "config.json").read_text())["flags"]
    if wanted.get("precision") == "auto":  # what was chosen is recorded
        wanted["precision"] = used["precision"]
    assert all(used[name] == value for name, value in wanted.items() if name not in ("resume", "output_dir"))
    if "epochs" not in shlex.join(flags) and not wanted["epochs"]:
        assert json.loads(summary.read_text())["steps"] == LONGEST["max_steps"]


def search(patch, script: str, flags: list[str]) -> None:
    flags = shortened(script, flags)
    folder = Path(understood(script, flags).output_dir)
    assert shell(patch, script, flags) == 0
    assert {"best.json", "trials.csv", "history.png"} <= {path.name for path in folder.iterdir()}


def curves(patch, script: str, flags: list[str]) -> None:
    if "--list" in flags:
        run(patch, "train_mlp_numpy", "results/some")
        shutil.copytree(ROOT / "report/results/norms", "report/results/norms")
        with contextlib.redirect_stdout(io.StringIO()) as said:
            assert shell(patch, script, flags) == 0
        assert said.getvalue().count(" finished ") == (1 if flags == ["--list"] else 45)
        return
    assert shell(patch, script, flags) == 0
    assert Path("curves.png").exists() != ("--out" in flags)


def predicted(patch, script: str, flags: list[str]) -> None:
    with contextlib.redirect_stdout(io.StringIO()) as said:
        assert shell(patch, script, flags) == 0
    assert "taken for" in said.getvalue() or "--export" in flags
    for flag in ("--plot", "--export"):
        assert flag not in flags or Path(flags[flags.index(flag) + 1]).stat().st_size > 5_000


def inspected(patch, script: str, flags: list[str]) -> None:
    assert shell(patch, script, flags) == 0
    assert list(Path().glob("**/predictions.json"))


def data(patch, script: str, flags: list[str]) -> None:
    """The network is played; tests/test_fetch.py has servers, tests/test_standin.py draws more images."""
    def fetch(folder: Path, **_: object) -> None:
        folder.parent.mkdir(parents=True, exist_ok=True)
        write_batches(folder.parent).rename(folder.parent / folder.name)

    patch.setattr(cifar10_download, "fetch", fetch)
    flags = [Path(SMALL).name if flag == SMALL else flag for flag in flags]
    if flags[0] == "standin" and "--train_size" not in flags:
        flags += ["--train_size", "60", "--test_size", "20"]
    assert shell(patch, script, flags) == 0
    assert [*Path().glob("**/data_batch_1")] or flags[0] == "verify"


def experiment(patch, script: str, flags: list[str]) -> None:
    """Hours: that the runs are asked for, here; tests/test_experiments.py parses and starts some."""
    started = []
    patch.setattr(experiments, "run", lambda variant, *_: started.append(variant) and 0)
    patch.setattr(experiments, "README", Path("README.md"))
    Path("README.md").write_text(re.sub(r"(<!-- results -->).*(<!-- /results -->)", r"\1\2", README, flags=re.S))
    patch.setattr(experiments, "check", lambda *run: started.append(run) or 0)
    if {"--readme", "--check"} & set(flags):
        shutil.copytree(experiments.RESULTS, "kept")
    patch.setattr(experiments, "RESULTS", Path("kept"))
    assert experiments.main(["mlp-numpy" if flag == "NAME" else flag for flag in flags]) == 0
    assert started or flags in (["--list"], ["--readme"])
    assert (Path("README.md").read_text() == experiments.with_table(README)) == ("--readme" in flags)


def report(patch, script: str, flags: list[str]) -> None:
    """Wants every kept result: tests/test_report.py builds it, where they are there."""
    built = []
    patch.setattr(build_report, "build", lambda *of: built.append((of[0], of[1].name, *of[2:])))
    assert build_report.main(flags) == 0
    given = dict(zip(flags[::2], flags[1::2], strict=True))
    assert built == [(ROOT / "report", given.get("--out", "report.pdf"), given.get("--author", ""), given.get("--date", ""))]


def submission(patch, script: str, flags: list[str]) -> None:
    """Wants the built report: tests/test_report.py packs one."""
    patch.setattr(make_submission, "files", lambda root: {"README.md": root / "README.md"})
    assert make_submission.main(flags) == 0
    assert list(Path().glob("**/*_assignment1.zip"))


def grading(patch, script: str, flags: list[str]) -> None:
    """A class takes minutes and confinement: tests/test_grading_class.py grades and merges, with and without."""
    options = cli.parse(grade.__doc__, flags)
    if options.check is not None:  # tests/test_grading_home.py checks
        home.chosen(options.check)
        return
    if options.submissions or options.merge:
        return
    assert shell(patch, script, flags) == 0
    assert (options.starter or options.autograder).exists()


SCRIPTS = {**{path.stem: train for path in ROOT.glob("train_*.py")}, "search_mlp_pytorch": search,
           "plot_curves": curves, "predict": predicted, "inspect_runs": inspected, "cifar10_utils": data, "experiments": experiment,
           "build_report": report, "make_submission": submission, "grade": grading}


# ---------------------------------------------------------------- by program


def python(patch, words: list[str]) -> None:
    if words[:2] == ["-m", "venv"]:  # takes a minute to fill: make makes the same one
        assert words[2:] == [".venv"] and "VENV ?= .venv\n" in (ROOT / "Makefile").read_text()
        return
    script, *flags = [words[1].removeprefix("report."), *words[2:]] if words[0] == "-m" else words
    assert script.removesuffix(".py") in SCRIPTS, f"say in SCRIPTS how {script} is tried"
    if "--help" in flags:
        assert shell(patch, Path(script).stem, flags) == 0
        return
    make_what_is_named(patch, flags)
    SCRIPTS[Path(script).stem](patch, Path(script).stem, flags)


def torchrun(patch, words: list[str]) -> None:
    """Starts processes that take half a minute: tests/test_distributed.py does."""
    options = parse_args(words)
    understood(Path(options.training_script).stem, options.training_script_args)


def sbatch(patch, words: list[str]) -> None:
    """Wants a cluster: tests/test_distributed.py and tests/test_grading_together.py run the jobs, on one that they play."""
    job, script, *flags = words
    assert (ROOT / job).exists()
    if job == "cluster/grade.sbatch":
        assert 'python grade.py "$@"' in (ROOT / job).read_text()
        assert cli.parse(grade.__doc__, words[1:]).out == Path("grades")
        return
    understood(Path(script).stem, flags)


def make(patch, words: list[str]) -> None:
    """Would train for minutes, or test the tests: what it says that it would run is there, and is understood."""
    if not shutil.which("make"):
        pytest.skip("no make on this machine")
    done = subprocess.run(["make", "--dry-run", *words], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert all(word.partition("=")[2] in done.stdout for word in words), done.stdout
    asked = re.findall(r"\S+/python (\w+)\.py *(.*)", done.stdout)
    assert asked or re.search(r"python -m (pytest|coverage|ruff|benchmarks|report)", done.stdout), done.stdout
    for script, flags in asked:
        assert (ROOT / f"{script}.py").exists()
        if SCRIPTS[script] is train:
            understood(script, shlex.split(flags))


def pytest_(patch, words: list[str]) -> None:
    """Tests are not run twice: that it selects some."""
    flag, mark = words
    assert flag == "-m" and mark in collected_marks()


def source(patch, words: list[str]) -> None:
    """Changes a shell, which no test has: that make makes the file's folder."""
    assert words == [".venv/bin/activate"] and "VENV ?= .venv\n" in (ROOT / "Makefile").read_text()


def apt(patch, words: list[str]) -> None:
    """Needs root and a network: that the grader, where it finds no confinement, asks for the same."""
    assert shlex.join(["apt", *words]) in (ROOT / "grading/confinement.py").read_text()


def pip(patch, words: list[str]) -> None:
    """Has no network: that the files it reads are there and are requirements, and a package is one of ours."""
    if not words[1].startswith("-"):
        assert words[0] == "install" and words[1] in (ROOT / "requirements-dev.txt").read_text()
        return
    assert words[0] == "install" and set(words[1::2]) <= {"-r", "-c"}
    for name in words[2::2]:
        for line in (ROOT / name).read_text().splitlines():
            if line.startswith("-r "):
                pip(patch, ["install", *line.split()])
            elif not line.startswith("#"):
                Requirement(line)


PROGRAMS = {"python": python, "python3": python, "pip": pip, "torchrun": torchrun, "sbatch": sbatch, "make": make, "pytest": pytest_, "source": source,
            "apt": apt}


@pytest.mark.parametrize("command", COMMANDS)
def test_command(command, shop):
    words = shlex.split(command)
    while "=" in words[0]:
        shop.setenv(*words.pop(0).split("=", 1))
    assert words[0] in PROGRAMS, f"say in PROGRAMS how `{words[0]}` is tried"
    PROGRAMS[words[0]](shop, words[1:])


# ---------------------------------------------------------------- other shells, and Python


def test_windows_is_told_the_same_as_the_others():
    [windows], same = blocks_of(README, "powershell"), {"py -m venv .venv": "python3 -m venv .venv",
                                                        r".venv\Scripts\Activate.ps1": "source .venv/bin/activate"}
    assert "".join(f"{same.get(line, line)}\n" for line in windows.splitlines()) in blocks_of(README, "")


@pytest.mark.parametrize("command", ["train_mlp_numpy"])  # which data it wants
def test_the_way_in_from_python(shop, capsys):
    [block, _] = blocks_of(README, "python")
    exec(block, {})
    assert 0 < float(capsys.readouterr().out.split()[-1]) <= 1


@pytest.mark.parametrize("command", ["train_convnet_pytorch"])
def test_plain_pytorch_loads_a_checkpoint_in_three_lines(shop):
    [_, block] = blocks_of(README, "python")
    assert len([line for line in block.splitlines() if line and "import" not in line]) == 3
    flags = shortened("train_convnet_pytorch", ["--output_dir", "RUN", "--precision", "fp32"])
    assert shell(shop, "train_convnet_pytorch", flags) == 0
    names: dict = {}
    exec(block, names)
    trained = predict.load(Path("RUN"))
    pixels = torch.randint(0, 256, (3, 3, 32, 32)).numpy()
    with torch.inference_mode():
        scaled = (torch.from_numpy(pixels) - names["checkpoint"]["mean_image"]) * names["checkpoint"]["pixel_scale"]
        found = torch.softmax(names["model"].eval()(scaled), 1).numpy()
    assert abs(found - trained.of_pictures(pixels)).max() < 1e-5


@pytest.mark.parametrize("command", ["train_mlp_numpy"])
def test_the_way_in_from_a_notebook(shop):
    [block] = blocks_of(README, "ipython")
    clone, change, install, *cell = block.splitlines()
    assert clone.startswith("!git clone REPOSITORY ") and change == f"%cd {clone.split()[-1]}"
    assert install == "!pip install --quiet -r requirements.txt"
    found = {}
    exec("\n".join(cell), found)
    assert found["summary"]["steps"] == 200


# ---------------------------------------------------------------- the questions' tests, and this file


@functools.cache
def collected_marks() -> set[str]:
    """The marks of all tests."""
    code = ("import sys, pytest\nclass Marks:\n def pytest_collection_finish(self, session):\n"
            "  print('marks', *{mark.name for item in session.items for mark in item.iter_markers()})\n"
            "sys.exit(pytest.main(['--collect-only'], plugins=[Marks()]))")
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    return set(re.findall(r"^marks (.*)$", done.stdout, flags=re.M)[-1].split())


def headings(path: Path) -> set[str]:
    """A page's headings, as links name them."""
    found = re.findall(r"^#+ (.*)$", path.read_text(), re.M)
    return {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in found}


@pytest.mark.parametrize("page", [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("report/**/*.md")],
                         ids=lambda page: str(page.relative_to(ROOT)))
def test_what_a_page_points_to_is_there(page):
    text = page.read_text()
    for target, heading in re.findall(r"\]\((?!https?:)([^)#]*)#?([^)]*)\)", text):
        path = page.parent / target if target else page
        assert path.exists(), target
        assert not heading or heading in headings(path), f"{target}#{heading}"
    assert not re.search(r"\bsection \"", text), "a link says which page it is on, and is tested"


def test_each_question_has_tests():
    named = set()
    for first, last in re.findall(MARKERS, README):
        named |= {first[:-1] + chr(n) for n in range(ord(first[-1]), ord((last or first)[-1]) + 1)}
    assert len(named) > 10
    assert named <= collected_marks(), named - collected_marks()


def test_commands_are_found():
    """A command is not lost on the way: continued lines, assignments before it, tables, text, blocks."""
    text = "`make it so` and `results/x`\n\n| `python a.py` |\n```\nrm -rf x  # no\n\nA=b python a.py \\\n  --c\n```\n"
    assert [bare(line) for line in of_readme(text) if line] == ["rm -rf x", "A=b python a.py --c", "make it so",
                                                               "python a.py"]
    assert {line.split()[0] for line in COMMANDS} >= {*PROGRAMS}
    scripts = {path.stem for path in [*ROOT.glob("*.py"), *ROOT.glob("report/*.py")]
               if 'if __name__ == "__main__"' in path.read_text()}
    named = {word.removesuffix(".py").removeprefix("report.") for line in COMMANDS
             for word in re.findall(r"python (?:-m )?(\S+)", line)}
    assert scripts == named
