"""What the grader's tests share: small rubrics, hand-made submissions, and grading a folder of them."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from grading import rubric  # noqa: E402
from grading.classroom import SEED, Classroom, submissions  # noqa: E402
from grading.confinement import ConfinementError  # noqa: E402
from grading.rubric import Rubric  # noqa: E402
from grading.sandbox import Sandbox  # noqa: E402
from grading.submission import QUESTIONS, Record  # noqa: E402


def why_not_confined() -> str:
    """Why no submission can be run on this machine; '' where it can."""
    try:
        with Sandbox(ROOT) as sandbox:
            sandbox.warnings()
    except ConfinementError as error:
        return str(error)
    return ""


def confined_or_skip() -> None:
    """Skip the test where no submission can be run."""
    if WHY_NOT:
        pytest.skip(f"submissions cannot run: {WHY_NOT}")


CLASS_SEED = "the tests' class"
WHY_NOT = why_not_confined()
needs_confinement = pytest.mark.skipif(bool(WHY_NOT), reason=f"submissions cannot run: {WHY_NOT}")


def reduced(numbers: list[str], scripts: bool = True, **limits: float) -> Rubric:
    """The rubric with these code questions alone, perhaps without the checks of training scripts."""
    whole = rubric.load()
    questions = []
    for row in whole.questions:
        if row.written:
            questions.append(row)
        elif row.number in numbers:
            script = QUESTIONS[row.number].script
            checks = [check for check in row.checks if scripts or not script or check.id not in script.checks]
            questions.append(dataclasses.replace(row, checks=tuple(checks), points=sum(c.points for c in checks)))
    return dataclasses.replace(whole, questions=tuple(questions), digest=f"{numbers} {scripts} {limits}",
                               limits=dataclasses.replace(whole.limits, **limits))


def grade(paths: list[Path], rules: Rubric, out: Path, jobs: int = 2, **options: object) -> dict[str, Record]:
    """Records by student. Skips the test where no submission can be run.

    The class has a seed that is always the same, so that a test has one outcome. Other seeds are what
    test_no_verdict_depends_on_the_seed and `python tests/grading_handins.py` try.
    """
    confined_or_skip()
    found = {}
    out.mkdir(parents=True, exist_ok=True)
    if not (out / SEED).exists():
        (out / SEED).write_text(CLASS_SEED)
    with Classroom(out, rules, jobs, **options) as room:
        room.grade(submissions(paths), lambda record, new: found.update({record["student"]: record}))
    return found


def lost(record: Record, rules: Rubric) -> dict[str, float]:
    """{question: points lost}, of the code questions that lost any."""
    points = {row.number: round(row.points - record["questions"][row.number]["score"], 2) for row in rules.code}
    return {number: value for number, value in points.items() if value}


def failures(record: Record) -> list[str]:
    """Every check below full points, for a message."""
    return [f"{number} {check['id']}: {check['diagnosis']} {check['numbers']}"
            for number, question in record["questions"].items() for check in question["checks"]
            if check["score"] < check["points"]]


MODULES = """
import numpy as np

class LinearModule:
    def __init__(self, in_features, out_features):
        self.params = {'weight': np.random.normal(0, 0.0001, (out_features, in_features)),
                       'bias': np.zeros((1, out_features))}
        self.grads = {}
    def forward(self, x):
        self.x = x
        return x @ self.params['weight'].T + self.params['bias']
    def backward(self, dout):
        self.grads = {'weight': dout.T @ self.x, 'bias': dout.sum(axis=0, keepdims=True)}
        return dout @ self.params['weight']

class ELUModule:
    def forward(self, x):
        self.x = x
        return np.where(x >= 0, x, np.expm1(np.minimum(x, 0)))
    def backward(self, dout):
        return dout * np.exp(np.minimum(self.x, 0))

class SoftMaxModule:
    def forward(self, x):
        e = np.exp(x - x.max(axis=1, keepdims=True))
        self.y = e / e.sum(axis=1, keepdims=True)
        return self.y
    def backward(self, dout):
        return self.y * (dout - (dout * self.y).sum(axis=1, keepdims=True))

class CrossEntropyModule:
    def forward(self, x, y):
        return -(y * np.log(np.maximum(x, 1e-300))).sum() / len(x)
    def backward(self, x, y):
        return -y / np.maximum(x, 1e-300) / len(x)
"""

MLP = """
from modules import *

class MLP:
    def __init__(self, n_inputs, n_hidden, n_classes):
        self.layers = []
        for n in n_hidden:
            self.layers += [LinearModule(n_inputs, n), ELUModule()]
            n_inputs = n
        self.layers += [LinearModule(n_inputs, n_classes), SoftMaxModule()]
    def forward(self, x):
        for layer in self.layers:
            x = layer.forward(x)
        return x
    def backward(self, dout):
        for layer in reversed(self.layers):
            dout = layer.backward(dout)
"""
MLP_RECORD = MLP.replace("class MLP:", "from typing import NamedTuple\n\nclass MLP(NamedTuple('MLP', [('layers', list)])):").replace(
    "__init__(self", "__new__(cls").replace("self.layers =", "layers =").replace("self.layers +=", "layers +=").replace(
    "    def forward", "        return super().__new__(cls, layers)\n    def forward")  # a record, without __init__


def submission(folder: Path, **files: str) -> Path:
    """A submitted folder: {name without .py: text}; modules.py and mlp_numpy.py are right unless given."""
    folder.mkdir(parents=True)
    for name, text in ({"modules": MODULES, "mlp_numpy": MLP} | files).items():
        (folder / f"{name}.py").write_text(text)
    return folder
