"""A submission that was written on another machine: with a GPU, its own paths, a debugger, a notebook server."""

import ast
import os
import re
import subprocess
import sys

import pytest
import torch
from grading_help import ROOT, failures, grade, needs_confinement, reduced, submission
from grading_networks import MODULE_LIST

from grading.worker import elsewhere

pytestmark = pytest.mark.grading
HERE = f"./{elsewhere.OWN_FOLDER}"


def here(source: str, monkeypatch, tmp_path, gpu: bool = False) -> tuple[str, set[str]]:
    """What is run of `source` on this machine, and what of another machine it may come to."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    code = ast.unparse(elsewhere.for_here(source.encode(), "a.py"))
    told = rf"{elsewhere.PASSED_OVER}\('(\w+)', (f?'[^']*'|\w+(?:\.float\(\))?)\)"
    return re.sub(told, r"\2", code), {what for what, _ in re.findall(told, code)}


@pytest.mark.parametrize("source, run", [
    ("device = torch.device('cuda:0')", "device = torch.device('cpu')"),
    ("net.cuda()", "net.cpu()"),
    ("right = net.cuda() == targets", "right = net.cpu() == targets"),
    ("x = x.float().cuda(0, non_blocking=True)", "x = x.float().cpu()"),
    ("x.to(f'cuda:{gpu}')", "x.to(f'cpu:{gpu}')"),
    ("torch.set_default_tensor_type('torch.cuda.FloatTensor')", "torch.set_default_tensor_type('torch.FloatTensor')"),
    ("dtype = torch.cuda.FloatTensor", "dtype = torch.FloatTensor"),
    ("a = torch.cuda.current_device()", "a = 'cpu'"),
    ("print(torch.cuda.get_device_name(0))", "print('cpu')")])
def test_a_gpu_is_given_the_processor(source, run, monkeypatch, tmp_path):
    assert here(source, monkeypatch, tmp_path) == (run, {"GPU"})
    assert here(source, monkeypatch, tmp_path, gpu=True) == (source, set())


@pytest.mark.parametrize("source", [
    "device = torch.device('cuda' if torch.cuda.is_available() else 'cpu')\nnet.cuda()",  # it asks
    "if device.type == 'cuda':\n    torch.backends.cudnn.benchmark = True",
    "if args.device in ('cuda', 'mps'):\n    pass",
    "match device:\n    case 'cuda':\n        pass",
    "parser.add_argument('--device', choices=['cpu', 'cuda'], default='cpu')",
    "torch.cuda.manual_seed_all(42)",
    "print('no cuda here')"])
def test_code_that_runs_here_is_left_as_it_is(source, monkeypatch, tmp_path):
    assert here(source, monkeypatch, tmp_path) == (source, set())


@pytest.mark.parametrize("path, run", [
    ("/home/jan/cifar10", HERE), ("/home/jan/data/cifar-10-batches-py/", HERE), ("~/uva/dl/cifar-10-batches-py", HERE),
    (r"C:\Users\Jan\cifar10\cifar-10-batches-py", HERE), ("/content/drive/My Drive/CIFAR10", HERE),
    ("/nowhere/cifar-10-batches-py/data_batch_1", f"{HERE}/data_batch_1"), ("../../data/cifar-10-batches-py", HERE)])
def test_data_at_a_path_of_ones_own_are_those_of_the_checks(path, run, monkeypatch, tmp_path):
    assert here(f"DIR = {path!r}", monkeypatch, tmp_path) == (f"DIR = {run!r}", {"data"})


@pytest.mark.parametrize("text", [
    "./results/cifar10", "/home/jan/results/cifar10", "/home/jan/cifar10/curves.png", "cifar-10-batches-py", "cifar10", "/tmp",
    "data_batch_1", "see /data/cifar10 for more", "./cifar10/cifar-10-batches-py", "../cifar10/cifar-10-batches-py/"])
def test_other_texts_are_no_path_of_the_data(text, monkeypatch, tmp_path):
    assert here(f"a = {text!r}", monkeypatch, tmp_path) == (f"a = {text!r}", set())


def test_a_path_that_is_there_and_a_docstring_stay(monkeypatch, tmp_path):
    (tmp_path / "cifar10").mkdir()
    for source in (f"a = {str(tmp_path / 'cifar10')!r}", '"""/home/jan/cifar10"""'):
        assert here(source, monkeypatch, tmp_path) == (ast.unparse(ast.parse(source)), set())


@pytest.mark.parametrize("path", [*(ROOT / "tests/handins").glob("*/*.py")], ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_hand_ins_that_run_here_have_nothing_of_another_machine(path, monkeypatch, tmp_path):
    assert here(path.read_text(), monkeypatch, tmp_path) == (ast.unparse(ast.parse(path.read_text())), set())


def test_what_is_no_python_says_so_as_ever(tmp_path):
    for source in (b"!pip install seaborn\n", b"a = (\n", b"a = '\0'\n"):
        with pytest.raises((SyntaxError, ValueError)):
            elsewhere.compiled(source, str(tmp_path / "a.py"))


SCRIPT = """
import {debugger}
from google.colab import drive, files
from helper import twice
drive.mount('/content/drive')
get_ipython().run_line_magic('matplotlib', 'inline')
try:
    get_ipython()
    notebook = True
except NameError:
    notebook = False
{debugger}.set_trace()
breakpoint()
files.download('a')
print(notebook, twice(2))
"""


@pytest.mark.parametrize("debugger", ["pdb", "ipdb", "pudb"])
def test_what_waits_for_somebody_is_passed_over(tmp_path, debugger):
    """In a process of its own, since it is for good."""
    (tmp_path / "helper.py").write_text("def twice(x):\n    breakpoint()\n    return 2 * x\n")
    (tmp_path / "a.py").write_text(SCRIPT.format(debugger=debugger))
    code = ("import os, sys\nfrom grading.worker import elsewhere, packages\npackages.folder = os.getcwd()\n"
            "packages.stand_in(numpy_only=False)\nelsewhere.pass_over()\nsys.path.append('.')\nimport a\n"
            "print(sorted(packages.left), packages.needed)")
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False,
                          stdin=subprocess.DEVNULL, env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert done.stdout == "False 4\n['breakpoint', 'notebook'] set()\n", done.stderr[-2000:]


@needs_confinement
def test_it_costs_nothing_and_is_said(tmp_path):
    mlp = MODULE_LIST.replace("    def forward(self, x):\n", "    def forward(self, x):\n        breakpoint()\n")
    assert mlp.count("breakpoint") == 1
    if not torch.cuda.is_available():
        mlp = mlp.replace("        breakpoint()\n", "        breakpoint()\n        x = x.cuda()\n")
    path = submission(tmp_path / "doe", mlp_pytorch=mlp)
    [record] = grade([path], reduced(["2.1"], scripts=False), tmp_path / "g").values()
    assert not failures(record) and record["flags"] == ["missing: train_mlp_pytorch.py", "no report (PDF)"]
    remark = record["questions"]["2.1"]["remark"]
    assert "A breakpoint is left" in remark and ("takes a GPU for granted" in remark or torch.cuda.is_available())
