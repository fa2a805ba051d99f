"""The grader on the reference, on the handout, on mutants of the reference, and on other right solutions."""

import json

import pytest
from grading_help import MODULES, ROOT, failures, grade, lost, reduced, submission
from grading_mutants import MUTANTS, Mutant, copy_reference

from grading import rubric, scan, starter
from grading.gradescope import entry, results
from grading.inputs import Inputs
from grading.marks import NOTHING, Marks, mark

pytestmark = [pytest.mark.grading, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    folder = tmp_path_factory.mktemp("class")
    copy_reference(folder / "reference")
    starter.write_starter(folder / "starter", ROOT)
    rules = rubric.load()
    return grade([folder / "reference", folder / "starter"], rules, folder / "grades")


@pytest.mark.slow
def test_reference_has_full_marks_and_no_flags(reference):
    record = reference["reference"]
    assert not failures(record)
    assert sum(question["score"] for question in record["questions"].values()) == 57
    assert record["flags"] == ["no report (PDF)"]


@pytest.mark.slow
def test_starter_scores_nothing_in_every_check(reference):
    checks = [check for question in reference["starter"]["questions"].values() for check in question["checks"]]
    assert len(checks) == sum(len(row.checks) for row in rubric.load().code)
    assert [check for check in checks if check["score"]] == []
    assert results(Marks(reference["starter"], rubric.load()))["score"] == 0


def test_a_docstring_that_changed_is_noticed():
    rules = [{"file": "a.py", "text": "y = x", "instead": "y"}]
    assert starter.hidden('"""y = x."""', "a.py", rules) == '"""y."""'
    assert starter.hidden('"""y = 2x."""', "b.py", rules) == '"""y = 2x."""'
    for source in ('"""y = 2x."""', '"""y = x, y = x."""'):
        with pytest.raises(starter.StarterError, match=r"correct starter\.toml"):
            starter.hidden(source, "a.py", rules)


@pytest.mark.parametrize("source, wanted", [
    ("def f(x): return x\n", "def f(x):\n    raise NotImplementedError\n"),
    ("def f(\n    x: int,\n) -> int:\n    # how\n    return x  # why\n\n\ny = 1\n",
     "def f(\n    x: int,\n) -> int:\n    raise NotImplementedError\n\n\ny = 1\n"),
    ('class A:\n    @staticmethod\n    def f(x):\n        """Docs."""\n        def g():\n            return 1\n'
     "        return g\n\n    b = 2\n",
     'class A:\n    @staticmethod\n    def f(x):\n        """Docs."""\n        raise NotImplementedError\n\n    b = 2\n'),
    ('def f():\n    """Only docs."""\n', 'def f():\n    """Only docs."""\n    raise NotImplementedError\n')])
def test_blanked(source, wanted):
    assert starter.blanked(source, ["*"]) == wanted
    with pytest.raises(starter.StarterError, match="no function 'h'"):
        starter.blanked(source, ["h"])


# The MLP imports custom_layernorm.py, but runs none of it at its defaults: one mutant is graded there, too.
ONE_LAYERNORM = "gamma is not a parameter"


@pytest.fixture(scope="module")
def graded_mutants(tmp_path_factory):
    """Each mutant on every question whose code imports the file it changes; scripts run for bugs in scripts alone."""
    folder = tmp_path_factory.mktemp("mutants")
    groups: dict[tuple, list[int]] = {}
    for i, mutant in enumerate(MUTANTS):
        mutant.write(folder / f"mutant {i}")
        numbers = mutant.may_touch()
        if mutant.file == "custom_layernorm.py" and mutant.name != ONE_LAYERNORM:
            numbers.remove("2.1")
        groups.setdefault((*numbers, mutant.in_a_script), []).append(i)
    found = {}
    for n, ((*numbers, scripts), members) in enumerate(groups.items()):
        rules = reduced(numbers, scripts)
        records = grade([folder / f"mutant {i}" for i in members], rules, folder / f"grades {n}")
        found |= {i: (records[f"mutant {i}"], lost(records[f"mutant {i}"], rules)) for i in members}
    return found


@pytest.mark.slow
@pytest.mark.parametrize("i", range(len(MUTANTS)), ids=[mutant.name for mutant in MUTANTS])
def test_mutant_loses_points_on_the_right_question_and_no_other(graded_mutants, i):
    record, points = graded_mutants[i]
    assert list(points) == [MUTANTS[i].question], failures(record)


def test_enough_mutants():
    assert len(MUTANTS) >= 20
    assert ONE_LAYERNORM in {mutant.name for mutant in MUTANTS}
    assert {mutant.question for mutant in MUTANTS} == {row.number for row in rubric.load().code}


DIAGNOSES = {
    "bias gradient over the wrong axis": "summed over the features (axis 1)",
    "softmax gradient without its cross term": "cross term is missing",
    "gradient divided by the batch twice": "divided by the batch size twice",
    "ELU derivative 0 at 0": "at exactly 0",
    "a shared activation object": "its own activation module",
    "a Python loop": "loops over samples in Python",
    "unbiased variance": "Bessel's correction",
    "eps outside the root by hand": "eps belongs under the root",
    "normalized input kept": "kept for backward: the input, the normalized input",
    "function not called": "must call CustomLayerNormManualFunction.apply",
    "a missing skip connection": "No skip connection around the 9 PreAct blocks",
    "evaluation in training mode": "call model.eval()",
    "evaluates the training split": "No evaluation on the test split was seen",
}


@pytest.mark.slow
@pytest.mark.parametrize("name", DIAGNOSES)
def test_diagnosis_names_the_bug(graded_mutants, name):
    [i] = [i for i, mutant in enumerate(MUTANTS) if mutant.name == name]
    assert DIAGNOSES[name] in json.dumps(failures(graded_mutants[i][0]))


ONE_BUG = {
    "no bias gradient": "_wrap(LinearModule, 'backward', lambda original, self, dout, **k: ("
                        "original(self, dout, **k), self.grads.update(bias=0 * self.grads['bias']))[0])",
    "another alpha": """
def _forward(original, self, x):
    self._negative = x < 0
    return np.where(x < 0, 0.5, 1) * original(self, x)
_wrap(ELUModule, 'forward', _forward)
_wrap(ELUModule, 'backward', lambda original, self, dout: np.where(self._negative, 0.5, 1) * original(self, dout))
""",
    "a print": "_wrap(LinearModule, 'forward', lambda original, self, x: (print(x.shape, x[:2], f'{x[0]}'), original(self, x))[1])",
    "not Python": "",
}


@pytest.mark.slow
def test_a_bug_is_not_told_as_another(tmp_path):
    """What follows from a bug elsewhere names it, or costs nothing; a print is not a loop; a place is named once."""
    rules = reduced(["1.2"])
    for name, bug in ONE_BUG.items():
        Mutant(name, "1.2", "modules.py", bug).write(tmp_path / name)
    (tmp_path / "not Python" / "modules.py").write_text("import numpy\n\ndef f(\n")
    records = grade([tmp_path / name for name in ONE_BUG], rules, tmp_path / "grades")
    found = {name: {check["id"]: check for check in records[name]["questions"]["1.2"]["checks"]
                    if check["score"] < check["points"]} for name in ONE_BUG}
    assert not found["a print"], failures(records["a print"])
    assert found["no bias gradient"].keys() == {"linear_backward_bias"}
    alpha = found["another alpha"]
    assert alpha.keys() == {"elu_forward", "elu_backward"}  # the MLP is judged by its calls of the modules
    assert all("alpha is 1, not 0.5" in alpha[check]["diagnosis"] for check in ("elu_forward", "elu_backward"))
    everything = found["not Python"]
    assert everything.keys() == {check.id for check in rules.code[0].checks if check.points}
    assert {check["diagnosis"].count("modules.py, line 3") for check in everything.values()} == {1}
    assert any("modules.py is not Python (line 3" in flag for flag in records["not Python"]["flags"])
    lines = entry(mark(rules.code[0], records["not Python"], NOTHING))["output"].splitlines()
    assert sum("line 3" in line for line in lines) == 1  # one cause is said once


def test_a_script_that_fails_says_how_it_was_run(tmp_path):
    folder = copy_reference(tmp_path / "doe")
    (folder / "train_mlp_numpy.py").write_text("raise ValueError('no')")
    record = grade([folder], reduced(["1.2"]), tmp_path / "grades")["doe"]
    [check] = [check for check in record["questions"]["1.2"]["checks"] if check["id"] == "script_flags"]
    flags = Inputs((tmp_path / "grades/seed").read_text()).flags
    assert (f"python train_mlp_numpy.py --dnn_hidden_units {flags['dnn_hidden_units']} --learning_rate "
            f"{flags['learning_rate']}") in check["numbers"]


TRANSPOSED = MODULES.replace("(out_features, in_features)", "(in_features, out_features)").replace(
    "np.zeros((1, out_features))", "np.zeros(out_features)").replace("['weight'].T", "['weight']").replace(
    "dout.T @ self.x", "self.x.T @ dout").replace("keepdims=True)}\n", "keepdims=False)}\n").replace(
    "return dout @ self.params['weight']", "return dout @ self.params['weight'].T")


def test_harmless_variations_cost_nothing(tmp_path):
    rules = reduced(["1.2"], scripts=False)
    assert TRANSPOSED != MODULES
    records = grade([submission(tmp_path / "plain"), submission(tmp_path / "transposed", modules=TRANSPOSED),
                     submission(tmp_path / "no_network", mlp_numpy="x = 1\n")], rules, tmp_path / "grades")
    assert not failures(records["plain"]) + failures(records["transposed"])
    assert {check["id"] for check in records["no_network"]["questions"]["1.2"]["checks"]
            if check["score"] < check["points"]} == {"mlp_0", "mlp_1", "mlp_3"}


READY = """
import torch
from torch import nn
from torch.nn import functional as F

class CustomLayerNormAutograd(nn.Module):
    def __init__(self, n_neurons, eps=1e-5):
        super().__init__()
        self.gamma, self.beta = nn.Parameter(torch.ones(n_neurons)), nn.Parameter(torch.zeros(n_neurons))
        self.eps = eps
    def forward(self, x):
        if x.ndim != 2 or x.shape[1] != len(self.gamma):
            raise ValueError
        return {call}(x, (x.shape[1],), self.gamma, self.beta, self.eps)
"""


@pytest.mark.parametrize("call", ["F.layer_norm", "getattr(F, 'layer' + '_norm')"])
def test_ready_made_layer_norm_is_flagged_and_not_zeroed(tmp_path, call):
    rules = reduced(["3.1"])
    folder = submission(tmp_path / "ready", custom_layernorm=READY.replace("{call}", call))
    record = grade([folder], rules, tmp_path / "g")["ready"]
    assert not lost(record, rules)
    assert any(flag.startswith("3.1 runs ready-made operators: aten::layer_norm") for flag in record["flags"])
    seen = "ready-made normalization in custom_layernorm.py: layer_norm (line 14)" in record["flags"]
    assert seen == (call == "F.layer_norm")  # what hides from one of the two does not hide from the other


def test_scan_finds_what_a_ta_should_see(tmp_path):
    folder = submission(tmp_path / "odd", modules="import os, subprocess\nos._exit(0)\n", torch="", conftest="",
                        cifar10_utils="x = 1", mlp_numpy="def f(:")
    flags = " | ".join(scan.scan(folder))
    for part in ("conftest, torch", "modules.py uses os._exit, subprocess", "mlp_numpy.py is not Python",
                 "cifar10_utils.py differs from the course's"):
        assert part in flags
    assert scan.scan(submission(tmp_path / "fine")) == []
