"""Packages that are not here: what is imported and not used costs nothing, what cannot be judged is not graded."""

import importlib
import json
import os
import shutil
import sys
import warnings
from pathlib import Path

import matplotlib.axes
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from grading_help import MLP, MODULES, failures, grade, needs_confinement, reduced, submission

from grading import confinement, home
from grading import submission as grader
from grading.checks import Context, Replies
from grading.confinement import ConfinementError
from grading.feedback import feedback
from grading.marks import Marks
from grading.replies import Reply
from grading.sandbox import Limits, Probe, Sandbox
from grading.worker import packages, student

pytestmark = [pytest.mark.grading]


@pytest.fixture
def run(tmp_path, monkeypatch):
    """run(code, numpy_only): import it as a submission's file; the error as a student reads it, or None.

    In a child of this process: a library that is taken out of `sys.modules` must not be imported a second time here.
    """
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(packages, "folder", str(tmp_path))
    monkeypatch.setattr(packages, "needed", set())

    def child(numpy_only: bool) -> str | None:
        sys.path.append(str(tmp_path))
        for name in list(sys.modules) if numpy_only else ():
            if name.partition(".")[0] in packages.FRAMEWORKS:
                del sys.modules[name]
        packages.stand_in(numpy_only)
        try:
            importlib.import_module("taken")
        except Exception as error:
            return student.describe(error)
        return None

    def run(code: str, numpy_only: bool = True) -> str | None:
        Path("taken.py").write_text(code)
        if not os.fork():
            try:
                said = child(numpy_only)
                Path("said.json").write_text(json.dumps([said, sorted(packages.needed)]))
            finally:
                os._exit(0)
        os.wait()
        said, needed = json.loads(Path("said.json").read_text())
        packages.needed = set(needed)
        return said

    return run


@pytest.mark.parametrize("code", [
    "import torch", "import torch.nn as nn\nfrom torch.autograd import Variable\nx = nn.Module", "from torch import nn",
    "import torch\ntorch.manual_seed(42)\nif torch.cuda.is_available(): torch.zeros(1)\ntorch.backends.cudnn.deterministic = True",
    "import torch\nprint(isinstance(3, torch.Tensor))", "import nowhere_at_all, nowhere_at_all.more",
    "from nowhere_at_all import thing", "import scipy_of_2020.special as s\nfrom scipy_of_2020 import stats\nx = stats.norm"])
def test_an_import_that_nobody_uses_is_excused(run, code):
    assert not isinstance(run(code), str) and not packages.needed


@pytest.mark.parametrize("code, said", [
    ("import torch\nx = torch.zeros(1)", "ImportError: torch.zeros is used, but this question asks for NumPy alone (taken.py, line 2)"),
    ("import torch.nn as nn\nclass A(nn.Module): pass\nA()([1.0])", "ImportError: torch.nn.Module() is used, but this question asks for NumPy alone (taken.py, line 3)"),
    ("from torch import *", "ImportError: a framework is used, but this question asks for NumPy alone (taken.py, line 1)"),
    ("import torch\nx = torch.pi + 1", "ImportError: torch.pi is used"), ("import torch\nx = len(torch.x)", "ImportError: a framework"),
    ("import helpers\nhelpers.f()",
     "ModuleNotFoundError: No module named 'helpers'; hand in helpers.py with the code, or do without it (taken.py, line 2)"),
    ("from helpers import *", "ModuleNotFoundError: No module named 'helpers'; hand in helpers.py with the code")])
def test_what_is_used_raises_and_says_what_to_do(run, code, said):
    assert run(code).startswith(said) and not packages.needed


SHARED = """
from abc import ABC
from typing import Optional, Union
import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import Dataset

torch.set_float32_matmul_precision("highest")
torch.set_default_dtype(torch.float32)
torch.set_default_device("cpu")
torch.set_printoptions(precision=3)
torch.set_num_interop_threads(1)
torch.set_grad_enabled(True)
torch.autograd.set_detect_anomaly(False)
torch.use_deterministic_algorithms(True, warn_only=True)
torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.benchmark = False
torch.cuda.empty_cache()
torch.manual_seed(torch.initial_seed())
backend = getattr(torch, "mps", None)
assert not (backend and backend.is_available()) and not torch.cuda.is_available()
device = torch.device("cuda" if torch.cuda.device_count() > 0 else "cpu")
assert device.type != "cuda" and torch.device("cpu", 0) is not None
assert not torch.is_tensor(np.ones(3)) and isinstance(np.ones(3), Tensor | np.ndarray)
generator = torch.Generator(device="cpu").manual_seed(1)
EPS, THREADS = torch.finfo(torch.float32).eps, torch.get_num_threads()
criterion, activation = nn.CrossEntropyLoss(label_smoothing=0.1), nn.ELU()
network = nn.Sequential(nn.Linear(3072, 100), nn.Dropout(0.5), nn.Linear(100, 10)).to(device)
optimizer = torch.optim.SGD(network.parameters(), lr=0.1)

def elu(x: Tensor | None, y: None | Tensor = None) -> Optional[Tensor]:
    return F.elu(x)

def twice(x):
    return 2 * x

elu, twice = torch.jit.script(elu), torch.compile(mode="default")(torch.compile(twice))

@torch.no_grad()
def evaluate(x: Union[Tensor, list[Tensor]]):
    with torch.autocast("cpu", enabled=False):
        return twice(x)

@torch.inference_mode
def shown(x):
    return x

class Net(nn.Module, ABC):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(3, width)

    @torch.no_grad()
    def forward(self, x):
        return self.linear(x)

class Elu(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x

class Data(Dataset[tuple[Tensor, int]]):
    def __len__(self):
        return 3

apply, net = Elu.apply, Net(3)
net.linear.weight.requires_grad = False
assert len(Data()) == 3 and issubclass(Net, ABC) and (evaluate(np.ones(2)) == 2).all() and shown("a") == "a"
"""


def test_what_a_shared_file_sets_up_is_excused(run):
    found = run(SHARED)
    assert not isinstance(found, str), found


@pytest.mark.parametrize("use, named", [
    ("elu(np.ones(3))", "torch.nn.functional.elu"), ("activation(np.ones(3))", "torch.nn.ELU()"),
    ("criterion(np.ones((2, 3)), [0, 1])", "torch.nn.CrossEntropyLoss()"), ("network(np.ones(3))", "torch.nn.Sequential().to()"),
    ("net(np.ones(3))", "torch.nn.Module()"), ("net.forward(np.ones(3))", "torch.nn.Linear()"),
    ("net.linear(np.ones(3))", "torch.nn.Linear()"), ("apply(np.ones(3))", "torch.autograd.Function.apply"),
    ("torch.tensor([1, 2])", "torch.tensor"), ("torch.from_numpy(np.ones(3))", "torch.from_numpy"),
    ("torch.zeros(size=(2, 3))", "torch.zeros"), ("torch.Tensor(np.ones(3))", "torch.Tensor"),
    ("torch.Tensor([1]) + 1", "torch.Tensor()"), ("nn.Parameter(np.ones(3))", "torch.nn.Parameter"),
    ("torch.utils.data.DataLoader([np.ones(3)])", "torch.utils.data.DataLoader"),
    ("np.ones(3) * EPS", "a framework"), ("float(EPS)", "a framework"), ("THREADS // 2", "torch.get_num_threads()"),
    ("np.array(torch.load('w.pt'))", "a framework"), ("list(network.parameters())", "torch.nn.Sequential().to().parameters()"),
    ("F.elu(net.linear.weight)[0] * 2", "torch.nn.functional.elu()")])
def test_what_a_shared_file_computes_with_is_refused(run, use, named):
    assert run(SHARED + use).startswith(f"ImportError: {named} is used, but this question asks for NumPy alone (taken.py")


def test_who_tries_an_import_goes_on_without_it(run):
    assert run("try:\n    import cupy as np\nexcept ImportError:\n    import math as np\nassert np.sqrt(4) == 2") is None


HIDDEN = {"seaborn", "tensorboard", "tabulate", "pandas", "scipy", "sklearn", "pytorch_lightning"}


@pytest.fixture
def nothing_installed(monkeypatch):
    there = packages.installed
    monkeypatch.setattr(packages, "installed", lambda name: name not in HIDDEN and there(name))
    for name in list(sys.modules):
        if name.partition(".")[0] in HIDDEN:
            monkeypatch.delitem(sys.modules, name)


PLOTS = """
import seaborn as sns
import pandas as pd
from tabulate import tabulate
from torch.utils.tensorboard import SummaryWriter
import matplotlib.pyplot as plt

sns.set(style='whitegrid')
writer = SummaryWriter('runs/a')
with sns.axes_style('dark'):
    writer.add_scalar('loss', 1.0, 3)
table = pd.DataFrame({'loss': [1, 2]})
table['more'] = 3
table.to_csv('x.csv')
axes = sns.lineplot(data=table, x='loss', y='more')
axes.set(title='x')
axes.get_figure().savefig('x.png')
plt.plot([1, 2], color=sns.color_palette()[1])
print('table\\n' + tabulate([[1, 2]]), f'{table}')
with open('table.txt', 'w') as file:
    file.write(tabulate([[1, 2]]))
for row in table.iterrows():
    print(row)
"""


@pytest.mark.usefixtures("nothing_installed")
@pytest.mark.parametrize("numpy_only", [True, False])
def test_plots_and_logs_go_nowhere(run, numpy_only):
    found = run(PLOTS, numpy_only)
    assert not isinstance(found, str), found
    assert not packages.needed


@pytest.mark.usefixtures("nothing_installed")
@pytest.mark.parametrize("code, package", [
    ("from scipy.special import softmax\nx = softmax([1])", "scipy"),
    ("import pandas as pd\nx = float(pd.DataFrame([1]).mean())", "pandas"),
    ("import pandas as pd\nimport numpy as np\nx = np.array(pd.read_csv('x')) + 1", "pandas"),
    ("import sklearn.metrics as m\nx = m.accuracy_score(1, 1)", "sklearn")])
def test_what_matters_is_noted(run, code, package):
    found = run(code)
    assert found.startswith(f"ModuleNotFoundError: {package} is not installed on this machine (taken.py, line"), found
    assert packages.needed == {package}


def test_a_framework_that_is_not_installed_is_no_fault_where_it_is_allowed(run, nothing_installed):
    assert "is not installed" in run("import pytorch_lightning as pl\nclass Net(pl.LightningModule): pass", False)
    assert packages.needed == {"pytorch_lightning"}


def test_libraries_do_not_see_the_stand_ins(run):
    found = run("import torch\nimport matplotlib.pyplot as plt\nimport numpy as np\nplt.plot(np.ones(3))\nplt.close()")
    assert not isinstance(found, str), found
    with pytest.raises(ImportError):
        importlib.import_module("torch.nothing_here")  # from this file, which is none of the submission's


def test_names_of_2020_are_there(tmp_path, monkeypatch):
    monkeypatch.setattr(matplotlib.axes.Axes, "grid", matplotlib.axes.Axes.grid)
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "0")
    packages.restore_2020()

    axes = plt.figure().add_subplot()
    for turned_on in (True, False):
        axes.grid(b=turned_on)
        plt.grid(b=turned_on)
        assert axes.xaxis.get_gridlines()[0].get_visible() == turned_on
    axes.grid()
    assert axes.xaxis.get_gridlines()[0].get_visible()
    torch.save(torch.nn.Linear(2, 1), tmp_path / "net")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch says that it is told to
        assert torch.load(tmp_path / "net").out_features == 1
    plt.close("all")
    assert np.float is float and np.int is int and np.product([2, 3]) == 6 and np.in1d([1], [1]).all()
    with plt.style.context("seaborn-whitegrid"):
        assert plt.cm.get_cmap("viridis")


@pytest.mark.parametrize("text, clean", [
    ("cannot import name 'f' from 'modules' (/scratch/3/code/modules.py)", "cannot import name 'f' from 'modules' (modules.py)"),
    ("No such file: '/scratch/12/code/results/x.png'", "No such file: 'results/x.png'"),
    ("'/tmp/grade-x/inside/scratch/12/code/a.py', line 3", "'a.py', line 3"),
    ("in /usr/lib/python3/dist-packages/numpy/core.py", "in numpy/core.py"),
    (f"in {sys.prefix}/lib/python3.11/site-packages/torch/nn.py, line 3", "in torch/nn.py, line 3"),
    ("/usr/lib/python3.11/json/decoder.py", "json/decoder.py"), ("'/data/small/data_batch_6'", "'DATA_DIR/data_batch_6'"),
    ("/grader/grading/worker/student.py:12", "the check:12"), ("'/submission/modules.py'", "'modules.py'"),
    ("a/b and 1/2 of ./results/x", "a/b and 1/2 of ./results/x")])
def test_no_path_of_the_grader_s_machine_is_told(text, clean):
    assert student.without_places(text) == clean


# ---------------------------------------------------------------- as questions


def test_a_module_that_is_not_there_is_a_remark_without_points(tmp_path, capsys):
    """Nobody uses it, but the script that imports it does not start."""
    folder = submission(tmp_path / "doe", modules="from helpers import foo\n" + MODULES)
    assert home.check(folder, ["1.2"]) == 0
    assert ("  • Python stops where helpers is imported, which is not there: hand in helpers.py with the code, or remove "
            "the import.\n") in capsys.readouterr().out
    rules = reduced(["1.2"], scripts=False)
    one = grader.Submission(folder, "doe")
    grader.judge(one, rules.code[0], Replies(a=Reply(notes={"missing": ["helpers"]}), b=Reply(notes={"missing": 3})), 0.0,
                 Context({}, None, None, False))
    marks = Marks(grader.scored(one.record(rules), rules), rules)
    assert "1.2 imports helpers, which is not there" in marks.flags
    assert "remark</span></div>\n<div class=\"diagnosis\">Python stops where helpers is imported" in feedback(marks)


def test_needed_packages_are_known_and_really_absent():
    def needed(*names: object) -> list[str]:
        return grader.needed({"a": Reply(notes={"needs": list(names)}), "b": Reply(notes={"needs": 3})})

    assert needed("seaborn_of_nobody", "numpy", "torch", 3) == []
    absent = next(name for name in ("tensorboardX", "livelossplot", "texttable") if not packages.installed(name))
    assert grader.needed({"a": Reply(notes={"needs": [absent]})}) == [absent]


@needs_confinement
def test_questions_with_packages_that_are_not_here(tmp_path):
    """An unused import costs nothing; torch in NumPy code costs what it touches; what is absent is not graded."""
    absent = next(name for name in ("cv2", "skimage", "h5py", "numba") if not packages.installed(name))
    paths = [
        submission(tmp_path / "unused", modules=f"import torch\nimport {absent}, seaborn, nowhere\n" + MODULES, mlp_numpy=MLP),
        submission(tmp_path / "framework", modules="import torch\n" + MODULES.replace("np.expm1(", "torch.expm1(")),
        submission(tmp_path / "package", modules=f"import {absent}\n" + MODULES.replace("np.expm1(", f"{absent}.expm1("))]
    records = grade(paths, reduced(["1.2"], scripts=False), tmp_path / "g")
    assert not failures(records["unused"])
    assert records["unused"]["flags"][0] == "modules.py imports torch and does not use it"
    assert "1.2 imports nowhere, which is not there" in records["unused"]["flags"]
    page = feedback(Marks(records["unused"], reduced(["1.2"], scripts=False)))
    assert "Python stops where nowhere is imported" in page
    assert any("torch.expm1 is used, but this question asks for NumPy alone" in text for text in failures(records["framework"]))
    question = records["package"]["questions"]["1.2"]
    assert question["ungraded"] == f"needs {absent}, which is not installed on this machine" and question["score"] is None


@needs_confinement
def test_a_worker_that_cannot_start_is_no_fault_of_a_submission(tmp_path, monkeypatch):
    shutil.copytree(confinement.WORKER, tmp_path / "worker")
    (tmp_path / "worker" / "probes_numpy.py").write_text("raise ImportError('a damaged grader')")
    (tmp_path / "work").mkdir()
    monkeypatch.setattr(confinement, "WORKER", tmp_path / "worker")
    with (Sandbox(tmp_path / "work") as sandbox,
          pytest.raises(ConfinementError, match="ended before it ran anything of a submission: ImportError: a damaged grader")):
        sandbox.run(submission(tmp_path / "doe"), {"linear": Probe("linear")}, Limits(), {}, False)


@pytest.mark.parametrize("error", [OSError(28, "No space left on device", "/tmp/x"), MemoryError()])
def test_trouble_of_the_grader_is_no_zero(tmp_path, monkeypatch, error):
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(grader.archive.Layout, "_add", fail)
    one = grader.Submission(submission(tmp_path / "doe"), "doe", "key")
    one.take_in(tmp_path / "in")
    rules = reduced(["1.2"])
    record = grader.scored(one.record(rules), rules)
    assert record["questions"]["1.2"]["score"] is None
    assert record["error"].startswith("could not be taken in by the grader") and "/tmp" not in record["error"]


def test_a_question_at_which_the_grader_fails_is_no_zero(tmp_path):
    rules = reduced(["1.2"])
    record = grader.scored(grader.Submission(tmp_path, "doe", "key").record(rules), rules)
    assert record["questions"]["1.2"]["ungraded"] == "the grader itself failed at it"
    assert record["questions"]["1.2"]["score"] is None


def test_memory_that_a_check_lacks_is_no_fault_of_the_answers(monkeypatch):
    question = grader.QUESTIONS["1.2"]

    def fail(*_: object) -> None:
        raise MemoryError

    monkeypatch.setitem(question.own_checks, "linear_forward", fail)
    with pytest.raises(MemoryError):
        question.outcome("linear_forward", {}, Context({}, None, None, False))
