"""The checks of the NumPy modules on hand-ins in the course's forms: right ones lose nothing, a fault costs its own."""

import numpy as np
import pytest
from grading_help import MLP, MLP_RECORD, MODULES
from grading_quickly import found

from grading.inputs import Inputs
from grading.worker.interface import Parameters

pytestmark = [pytest.mark.grading, pytest.mark.timeout(900)]
REMARKS = {"elu_large", "loss_zero"}
WEIGHT = Inputs().modules["weight"]


def edited(*edits: tuple[str, str], text: str = MODULES) -> str:
    for old, new in edits:
        assert old in text, old
        text = text.replace(old, new)
    return text


def modules(*edits: tuple[str, str], **files: str) -> dict[str, str]:
    """A hand-in whose modules.py is right but for these edits."""
    return {"modules": edited(*edits), "mlp_numpy": MLP} | files


def network(*edits: tuple[str, str]) -> dict[str, str]:
    return {"modules": MODULES, "mlp_numpy": edited(*edits, text=MLP)}


LINEAR_FORWARD = "def forward(self, x):\n        self.x = x\n        return x @"
FORWARD = "return x @ self.params['weight'].T + self.params['bias']"
GRADS = "self.grads = {'weight': dout.T @ self.x, 'bias': dout.sum(axis=0, keepdims=True)}"
INIT = "def __init__(self, in_features, out_features):"
ELU = "return np.where(x >= 0, x, np.expm1(np.minimum(x, 0)))"
ELU_BACK = "return dout * np.exp(np.minimum(self.x, 0))"
SOFTMAX_BACK = "return self.y * (dout - (dout * self.y).sum(axis=1, keepdims=True))"
LOSS = "return -(y * np.log(np.maximum(x, 1e-300))).sum() / len(x)"
LOSS_BACK = "return -y / np.maximum(x, 1e-300) / len(x)"
LIST = "self.layers += [LinearModule(n_inputs, n), ELUModule()]"

TRANSPOSED = edited(
    ("(out_features, in_features)", "(in_features, out_features)"), (FORWARD, FORWARD.replace(".T", "")),
    ("dout.T @ self.x", "self.x.T @ dout"), ("return dout @ self.params['weight']", "return dout @ self.params['weight'].T"))
ZEROS = "self.grads = {key: np.zeros_like(value) for key, value in self.params.items()}"
ADDED = ("self.grads['weight'] += dout.T @ self.x\n"
         "        self.grads['bias'] += dout.sum(axis=0, keepdims=True)")

RIGHT = {
    "gradients add up and are cleared": modules(
        (GRADS, ADDED), ("self.grads = {}", ZEROS), mlp_numpy=MLP + "\n    def zero_grad(self):\n"
        "        for layer in self.layers:\n            for key in getattr(layer, 'grads', ()):\n"
        "                layer.grads[key][...] = 0\n"),
    "column bias": modules(("np.zeros((1, out_features))", "np.zeros((out_features, 1))"),
                           (FORWARD, "return (self.params['weight'] @ x.T + self.params['bias']).T"),
                           ("'bias': dout.sum(axis=0, keepdims=True)", "'bias': dout.sum(axis=0)[:, None]")),
    "einsum in an order of its own choice": modules(
        (FORWARD, "return np.einsum('sm,nm->sn', x, self.params['weight'], optimize=True) + self.params['bias']"),
        ("dout.T @ self.x", "np.einsum('sn,sm->nm', dout, self.x, optimize=True)"),
        ("return dout @ self.params['weight']", "return np.einsum('sn,nm->sm', dout, self.params['weight'], optimize='greedy')")),
    "weight (in, out)": {"modules": TRANSPOSED, "mlp_numpy": MLP},
    "grads are None before backward": modules(("self.grads = {}", "self.grads = {'weight': None, 'bias': None}"),
                                              (GRADS, "self.grads['weight'] = dout.T @ self.x\n"
                                                      "        self.grads['bias'] = dout.sum(0)")),
    "more in grads": modules((GRADS, GRADS.replace("}", ", 'x': dout}"))),
    "matrices": modules((GRADS, "self.grads = {'weight': np.matrix(dout).T @ self.x, 'bias': np.matrix(dout).sum(0)}")),
    "float32": modules(("(out_features, in_features))", "(out_features, in_features)).astype(np.float32)"),
                       ("dout.T @ self.x,", "(dout.T @ self.x).astype(np.float32),")),
    "arrays under names of its own": modules(
        ("self.grads = {}", "self.grads = {}\n        self.W, self.b = self.params['weight'], self.params['bias']"),
        (FORWARD, "return x @ self.W.T + self.b")),
    "defaults": modules((INIT, "def __init__(self, n_in, n_out, std=0.0001, *, seed=None):\n"
                               "        in_features, out_features = n_in, n_out"),
                        ("class ELUModule:", "class ELUModule:\n    def __init__(self, alpha=1.0):\n        pass")),
    "arguments of its own": modules(
        (INIT, "def __init__(self, in_features, out_features, std, name):"), ("0.0001", "std"),
        ("class ELUModule:", "class ELUModule:\n    def __init__(self, alpha):\n        self.alpha = alpha"),
        ("np.expm1(np.minimum(x, 0)))", "self.alpha * np.expm1(np.minimum(x, 0)))"),
        mlp_numpy=edited((LIST, LIST.replace("(n_inputs, n)", "(n_inputs, n, 1e-4, name='fc')").replace("()", "(1.0)")),
                         ("n_classes), ", "n_classes, 1e-4, 'last'), "), text=MLP)),
    "keywords alone": modules((INIT, "def __init__(self, *, in_features, out_features):"), mlp_numpy=edited(
        ("(n_inputs, n)", "(in_features=n_inputs, out_features=n)"),
        ("LinearModule(n_inputs, n_classes)", "LinearModule(in_features=n_inputs, out_features=n_classes)"), text=MLP)),
    "loss of shape (1,)": modules((LOSS, LOSS.replace("return", "return np.array([") + "])")),
    "sum, then mean": modules((LOSS, "return np.mean(np.sum(-y * np.log(x + 1e-12), axis=1), axis=0)"),
                              (LOSS_BACK, "return -(y / (x + 1e-12)) / y.shape[0]")),
    "not finite at p = 0": modules((LOSS, "return -(y * np.log(x)).sum() / len(x)"), (LOSS_BACK, "return -y / x / len(x)")),
    "ELU by masks": modules((ELU, "return (x > 0) * x + (x <= 0) * (np.exp(x) - 1)"),
                            (ELU_BACK, "return dout * ((self.x > 0) + (self.x <= 0) * np.exp(self.x))")),
    "ELU warns of an overflow": modules((ELU, "return np.where(x >= 0, x, np.exp(x) - 1)"),
                                        (ELU_BACK, "return dout * np.where(self.x >= 0, 1, np.exp(self.x))")),
    "einsum": modules((SOFTMAX_BACK, "d = np.einsum('ij,jk->ijk', self.y, np.eye(self.y.shape[1]))\n"
                       "        return np.einsum('ijk,ik->ij', d - np.einsum('ij,ik->ijk', self.y, self.y), dout)")),
    "the sum of Python": modules((GRADS, GRADS.replace("dout.sum(axis=0, keepdims=True)", "sum(dout)")),
                                 (LOSS, LOSS.replace("(y * np.log(np.maximum(x, 1e-300))).sum()",
                                                     "sum(sum(y * np.log(np.maximum(x, 1e-300))))"))),
    "asserts and prints": modules((FORWARD, "assert x.shape[1] == len(self.params['weight'][0]), x.shape\n"
                                   f"        print('forward', x.shape, x[:3], f'{{x.mean():.3f}}')\n        {FORWARD}")),
    "an initial image of its own layers": modules(("import numpy as np", "import numpy as np\nnp.random.seed(42)")),
    "last layer first": network(("self.layers += [LinearModule(n_inputs, n_classes), SoftMaxModule()]", ""),
                                ("self.layers = []", "last = [LinearModule((n_hidden or [n_inputs])[-1], n_classes), "
                                                     "SoftMaxModule()]\n        self.layers = []"),
                                ("    def forward", "        self.layers += last\n    def forward")),
    "a forward that __init__ sets": modules(
        ("self.grads = {}", "self.grads = {}\n        self.forward = lambda x: self.product(x)"),
        (LINEAR_FORWARD, LINEAR_FORWARD.replace("forward", "product"))),
    "__new__ alone": modules(
        (INIT, "def __new__(cls, in_features, out_features):\n        self = super().__new__(cls)"),
        ("self.grads = {}", "self.grads = {}\n        return self"), mlp_numpy=MLP_RECORD),
    "an activation of its own": network(("def forward(self, x):", "def forward(self, x):\n        self.seen = len(x)")),
    "softmax in forward": network(("n_classes), SoftMaxModule()]", "n_classes)]\n        self.last = SoftMaxModule()"),
                                  ("        return x", "        return self.last.forward(x)"),
                                  ("def backward(self, dout):", "def backward(self, dout):\n"
                                                                "        dout = self.last.backward(dout)")),
}


@pytest.fixture(scope="module")
def right():
    return found(["1.2"], RIGHT)


@pytest.mark.parametrize("name", RIGHT)
def test_a_right_hand_in_loses_nothing(right, name):
    assert {check: text for check, text in right[name].items() if check not in REMARKS} == {}


def test_what_goes_beyond_the_assignment_is_a_remark(right):
    assert "not finite where a probability is 0" in right["not finite at p = 0"]["loss_zero"]
    assert "keep exp from large x" in right["ELU by masks"]["elu_large"]
    assert right["sum, then mean"] == right["ELU warns of an overflow"] == {}


# name: (hand-in, {the checks that it costs: a part of what they say})
FAULTY = {
    "key of params": (modules(("'weight'", "'weights'")), {
        "linear_init": "params has 'weights', expected 'weight'."}),
    "keys of grads": (modules(("self.grads = {'weight'", "self.grads = {'W'"), ("'bias': dout.sum", "'b': dout.sum")), {
        "linear_backward_weight": "grads has 'W', 'b', expected 'weight'."}),
    "no gradient of the bias": (modules((", 'bias': dout.sum(axis=0, keepdims=True)", "")), {
        "linear_backward_bias": "grads has nothing else, expected 'bias'."}),
    "bias gradient None": (modules(("dout.sum(axis=0, keepdims=True)", "None")), {
        "linear_backward_bias": "grads['bias'] is None after backward."}),
    "no params": (modules(("self.params", "self.parameters")), {
        **dict.fromkeys(("linear_forward", "linear_backward_input", "linear_backward_weight", "linear_backward_bias",
                         "linear_init"), "LinearModule has no params.")}),
    "no bias": (modules((FORWARD, FORWARD.replace(" + self.params['bias']", ""))), {
        "linear_forward": "The bias is not added."}),
    "weight gradient transposed": (modules(("dout.T @ self.x", "self.x.T @ dout")), {
        "linear_backward_weight": f"expected shape {WEIGHT.shape}, received {WEIGHT.T.shape}"}),
    "bias over the features": (modules(("dout.sum(axis=0, keepdims=True)", "dout.sum(axis=1)")), {
        "linear_backward_bias": "summed over the features (axis 1)"}),
    "bias gradient a number": (modules(("dout.sum(axis=0, keepdims=True)", "dout.sum()")), {
        "linear_backward_bias": f"expected shape (1, {len(WEIGHT)}), received ()"}),
    "one argument of the constructor": (modules((INIT, "def __init__(self, size):\n"
                                                       "        in_features, out_features = size")), {
        **dict.fromkeys(("linear_forward", "linear_backward_input", "linear_backward_weight", "linear_backward_bias",
                         "linear_init"), "LinearModule.__init__ takes (size), expected (in_features, out_features).")}),
    "forward of one argument": (modules(("def forward(self, x, y):", "def forward(self, x):\n        y = x")), {
        "loss_forward": "CrossEntropyModule.forward takes (x), expected (x, y)."}),
    "no class": (modules(("class SoftMaxModule", "class Softmax")), {
        **dict.fromkeys(("softmax_forward", "softmax_backward", "softmax_large", "batch_of_one"),
                        "modules.py has no class SoftMaxModule.")}),
    "no method": (network(("def backward", "def back")), dict.fromkeys(("mlp_0", "mlp_1", "mlp_3"),
                                                                      "MLP has no method backward.")),
    "alpha": (modules(("np.expm1(", "0.5 * np.expm1("), (ELU_BACK, "return dout * np.where(self.x > 0, 1, 0.5 * "
                                                                  "np.exp(np.minimum(self.x, 0)))")), {
        "elu_forward": "alpha is 1, not 0.5", "elu_backward": "alpha is 1, not 0.5"}),
    "ELU in place": (modules((ELU, "x[...] = np.where(x >= 0, x, np.expm1(np.minimum(x, 0)))\n        return x")), {
        "elu_backward": "forward overwrites the x that it is given"}),
    "softmax in place": (modules((SOFTMAX_BACK, "p = np.exp(self.x) / np.exp(self.x).sum(axis=1, keepdims=True)\n"
                                  "        return p * (dout - (dout * p).sum(axis=1, keepdims=True))"),
                                 ("e = np.exp(x - x.max(axis=1, keepdims=True))",
                                  "self.x = x\n        x -= x.max(axis=1, keepdims=True)\n        e = np.exp(x, out=x)")), {
        "softmax_backward": "forward overwrites the x that it is given"}),
    "0 at 0": (modules((ELU_BACK, "return dout * ((self.x > 0) + (self.x < 0) * np.exp(np.minimum(self.x, 0)))")), {
        "elu_at_zero": "at exactly 0 is taken as 0"}),
    "diagonal": (modules((SOFTMAX_BACK, "return dout * self.y * (1 - self.y)")), {
        "softmax_backward": "only the diagonal is used"}),
    **{f"softmax divides by the sum of {what}": (modules(("e.sum(axis=1, keepdims=True)", total)), {
        "softmax_forward": sentence, "softmax_backward": "[follows from softmax_forward]"}) for what, total, sentence in (
            ("columns", "e.sum(axis=0)", "It normalizes columns"), ("everything", "e.sum()", "the sum of the whole batch"))},
    "softmax along columns in both directions": (modules(("axis=1, keepdims=True)\n", "axis=0)\n"), (
        SOFTMAX_BACK, SOFTMAX_BACK.replace("axis=1", "axis=0"))), {
        "softmax_forward": "It normalizes columns", "softmax_backward": "[follows from softmax_forward]"}),
    **{f"softmax backward sums over {where}": (modules((SOFTMAX_BACK, SOFTMAX_BACK.replace("axis=1, keepdims=True", axis))), {
        "softmax_backward": sentence}) for where, axis, sentence in (
            ("the batch", "axis=0", "taken over the batch (axis 0)"), ("everything", "", "taken over the whole batch"))},
    "Jacobian of each sample": (modules((SOFTMAX_BACK, "out = np.zeros(dout.shape)\n"
                                         "        for i in range(len(dout)):\n            y = self.y[i]\n"
                                         "            out[i] = (np.diag(y) - np.outer(y, y)) @ dout[i]\n"
                                         "        return out")), {
        "vectorised": "SoftMaxModule.backward loops over samples"}),
    "loop over features": (modules((GRADS, "self.grads = {'weight': np.stack([d @ self.x for d in dout.T]), "
                                    "'bias': dout.sum(axis=0)}")), {
        "vectorised": "LinearModule.backward loops over features"}),
    "a map over samples": (modules((FORWARD, "return np.array(list(map(self.params['weight'].dot, x))) + "
                                             "self.params['bias']")), {
        "vectorised": "LinearModule.forward loops over samples"}),
    "a product of each sample": (modules(("import numpy as np", "import itertools\nimport numpy as np"), (
        GRADS, "self.grads = {'weight': np.array([*itertools.starmap(np.outer, zip(dout, self.x))]).sum(0), "
               "'bias': dout.sum(axis=0)}")), {
        "vectorised": "LinearModule.backward loops over samples"}),
    "arrays reduced one by one": (modules(("import numpy as np", "import functools\nimport numpy as np"), (
        GRADS, "self.grads = {'weight': dout.T @ self.x, 'bias': functools.reduce(np.add, dout)}")), {
        "vectorised": "LinearModule.backward loops over samples"}),
    "a loop over samples of a plain array": (modules((
        FORWARD, "assert type(x) is np.ndarray\n        return np.array([self.params['weight'] @ row for row in x]) + "
                 "self.params['bias']")), {
        "vectorised": "LinearModule.forward loops over samples"}),
    "loop in the MLP": (network(("    def backward", "        return np.stack([row / row.sum() for row in x])\n"
                                                     "    def backward"), ("        return x\n", ""),
                                ("from modules", "import numpy as np\nfrom modules")), {
        "vectorised": "MLP.forward loops over samples"}),
    "overflow": (modules(("np.exp(x - x.max(axis=1, keepdims=True))", "np.exp(x)")), {
        "softmax_large": "subtract each row's maximum"}),
    "sum of the losses": (modules((LOSS, LOSS.replace(" / len(x)", ""))), {
        "loss_forward": "summed over the batch, not averaged"}),
    "gradient of the sum": (modules((LOSS_BACK, LOSS_BACK.replace(" / len(x)", ""))), {
        "loss_backward": "division by the batch size is missing"}),
    "gradient over the classes too": (modules((LOSS_BACK, LOSS_BACK + " / x.shape[1]")), {
        "loss_backward": "It is divided by the number of classes too."}),
    "gradient over the classes alone": (modules((LOSS_BACK, LOSS_BACK.replace("len(x)", "x.shape[1]"))), {
        "loss_backward": "It is divided by the number of classes, not by the batch size."}),
    "half the gradient": (modules((LOSS_BACK, LOSS_BACK + " / 2")), {
        "loss_backward": "Every number is 0.5 times the right one"}),
    "logarithm to base 2": (modules((LOSS, LOSS.replace("np.log(", "np.log2("))), {"loss_forward": "to base 2"}),
    "no ELU after the second layer": (network(("n), ELUModule()]", "n)] + [ELUModule()] * (len(self.layers) != 2)")), {
        "mlp_3": "No ELU after hidden layer 2."}),
    "no ELU": (network((", ELUModule()]", "]")), dict.fromkeys(("mlp_1", "mlp_3"), "No ELU between the linear layers")),
    "ELU last": (network(("SoftMaxModule()]", "ELUModule(), SoftMaxModule()]")), {
        "mlp_0": "An ELU follows the linear layer", **dict.fromkeys(("mlp_1", "mlp_3"), "An ELU follows the last linear")}),
    "backward leaves out the first layer": (network(("reversed(self.layers)", "reversed(self.layers[1:])")), {
        "mlp_0": "", **dict.fromkeys(("mlp_1", "mlp_3"), "; 0.40)")}),
    "variance for deviation": (modules(("0.0001", "0.01")), {"linear_init": "a variance of 0.0001 is 0.01"}),
    "state in the class": (modules(("self.x = x\n        return np.where", "ELUModule.x = x\n        return np.where")), {
        "state": "Two ELUModules share what they remember"}),
    "linear not written": (modules((FORWARD, "raise NotImplementedError"), (GRADS, "raise NotImplementedError")), {
        "linear_forward": "not implemented", "linear_backward_input": "not implemented",
        "linear_backward_weight": "not implemented", "linear_backward_bias": "not implemented"}),
    "gradients add up": (modules((GRADS, ADDED), ("self.grads = {}", ZEROS)), {
        "linear_backward_weight": "Gradients add up over calls of backward"}),
    "input gradient raises": (modules(("return dout @ self.params['weight']", "return dout @ self.params['weight'].T")), {
        "linear_backward_input": "ValueError"}),
    "ELU's derivative is ReLU's": (modules((ELU_BACK, "return dout * (self.x >= 0)")), {
        "elu_backward": "which is that of ReLU"}),
    "softmax returns nothing": (modules(("return self.y\n", "self.y\n")), {
        "softmax_forward": "SoftMaxModule.forward returns None: the return is missing."}),
    "ELU returns no gradient": (modules((ELU_BACK, "pass")), {
        "elu_backward": "ELUModule.backward returns None: the return is missing."}),
    "linear returns no gradient": (modules(("return dout @ self.params['weight']", "dout @ self.params['weight']")), {
        "linear_backward_input": "LinearModule.backward returns None: the return is missing."}),
    "the MLP returns nothing": (network(("        return x\n", "")), dict.fromkeys(
        ("mlp_0", "mlp_1", "mlp_3"), "MLP.forward returns None: the return is missing.")),
    "one activation for all": (network(("self.layers = []", "self.layers, elu = [], ELUModule()"),
                                       ("n), ELUModule()", "n), elu")), {"mlp_3": "its own activation module"}),
    "no softmax": (network((", SoftMaxModule()", "")), dict.fromkeys(("mlp_0", "mlp_1", "mlp_3"), "Softmax is missing")),
    "backward not reversed": (network(("reversed(self.layers)", "self.layers")), dict.fromkeys(
        ("mlp_0", "mlp_1", "mlp_3"), "")),
    "no activation on the way back": (network(("            dout = layer.backward(dout)",
                                               "            dout = layer.backward(dout) if not isinstance(layer, "
                                               "ELUModule) else dout")), {
        "mlp_1": "go back through all", "mlp_3": "go back through all"}),
    "wrong module and wrong network": (modules((FORWARD, FORWARD.replace(" + self.params['bias']", "")),
                                               mlp_numpy=edited((", SoftMaxModule()", ""), text=MLP)), {
        "linear_forward": "not added", **dict.fromkeys(("mlp_0", "mlp_1", "mlp_3"), "wrong above in LinearModule")}),
}


@pytest.fixture(scope="module")
def faulty():
    return found(["1.2"], {name: hand_in for name, (hand_in, _) in FAULTY.items()})


@pytest.mark.parametrize("name", FAULTY)
def test_a_fault_costs_its_own_checks_and_is_named(faulty, name):
    costs = FAULTY[name][1]
    lost = {check: text for check, text in faulty[name].items() if check not in REMARKS}
    assert lost.keys() == costs.keys(), lost
    for check, text in costs.items():
        assert text in lost[check]
        assert not {"/grader", "worker", "reshape"} & set(lost[check].split())


def test_a_square_weight_is_laid_out_as_the_others_are():
    x, weight = np.arange(6.0).reshape(2, 3), np.arange(9.0).reshape(3, 3)
    for text in (MODULES, TRANSPOSED):
        names: dict = {}
        exec(text, names)
        module = names["LinearModule"](3, 3)
        Parameters(module, 3, 3).put(weight, np.ones(3))
        assert np.array_equal(module.forward(x), x @ weight.T + 1)


def test_nothing_written_passes_nothing(tmp_path):
    """The handout, of which every check says that it is not implemented."""
    from grading_help import ROOT

    from grading import starter
    from grading.submission import QUESTIONS

    starter.write_starter(tmp_path / "handout", ROOT)
    text = {path.stem: path.read_text() for path in (tmp_path / "handout").glob("*.py")}
    for number in ("1.2", "3.1", "3.2b", "3.2c"):
        assert found([number], {"handout": text})["handout"].keys() == QUESTIONS[number].own_checks.keys()
