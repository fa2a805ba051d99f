"""The checks of LayerNorm on hand-ins in the course's forms: right ones lose nothing, a fault costs its own checks."""

import pytest
from grading_quickly import found, found_in_classes

from grading.inputs import Inputs

pytestmark = [pytest.mark.grading, pytest.mark.timeout(900)]
NUMBERS = ["3.1", "3.2b", "3.2c"]
DRAWN = Inputs()
BROADCAST = next(shape for wrong, shape in DRAWN.offered if wrong == "features" and shape[1] == 1)

LAYER_NORM = """
import torch
import torch.nn as nn

class CustomLayerNormAutograd(nn.Module):
    def __init__(self, n_neurons, eps=1e-5):
        super(CustomLayerNormAutograd, self).__init__()
        self.n_neurons, self.eps = n_neurons, eps
        self.gamma = nn.Parameter(torch.ones(n_neurons))
        self.beta = nn.Parameter(torch.zeros(n_neurons))

    def forward(self, input):
        if input.shape[1] != self.n_neurons:
            raise ValueError('wrong number of neurons')
        mean = input.mean(1, keepdim=True)
        var = input.var(1, unbiased=False, keepdim=True)
        return self.gamma * (input - mean) / (var + self.eps).sqrt() + self.beta

class CustomLayerNormManualFunction(torch.autograd.Function):
    @staticmethod
    def forward(ctx, input, gamma, beta, eps=1e-5):
        mean = input.mean(1, keepdim=True)
        std = (input.var(1, unbiased=False, keepdim=True) + eps).sqrt()
        x_hat = (input - mean) / std
        out = gamma * x_hat + beta
        ctx.save_for_backward(input, mean, std, gamma)
        return out

    @staticmethod
    def backward(ctx, grad_output):
        input, mean, std, gamma = ctx.saved_tensors
        x_hat = (input - mean) / std
        d = grad_output * gamma
        grad_input = grad_gamma = grad_beta = None
        if ctx.needs_input_grad[0]:
            grad_input = (d - d.mean(1, keepdim=True) - x_hat * (d * x_hat).mean(1, keepdim=True)) / std
        if ctx.needs_input_grad[1]:
            grad_gamma = (grad_output * x_hat).sum(0)
        if ctx.needs_input_grad[2]:
            grad_beta = grad_output.sum(0)
        return grad_input, grad_gamma, grad_beta, None

class CustomLayerNormManualModule(nn.Module):
    def __init__(self, n_neurons, eps=1e-5):
        super(CustomLayerNormManualModule, self).__init__()
        self.n_neurons, self.eps = n_neurons, eps
        self.gamma = nn.Parameter(torch.ones(n_neurons))
        self.beta = nn.Parameter(torch.zeros(n_neurons))

    def forward(self, input):
        if input.shape[1] != self.n_neurons:
            raise ValueError('wrong number of neurons')
        return CustomLayerNormManualFunction.apply(input, self.gamma, self.beta, self.eps)
"""
SHAPE = "        if input.shape[1] != self.n_neurons:\n            raise ValueError('wrong number of neurons')\n"
SAVE = "ctx.save_for_backward(input, mean, std, gamma)"
LOAD = "input, mean, std, gamma = ctx.saved_tensors\n        x_hat = (input - mean) / std"
APPLY = "return CustomLayerNormManualFunction.apply(input, self.gamma, self.beta, self.eps)"
INIT = "def __init__(self, n_neurons, eps=1e-5):"
VARIANCE = "input.var(1, unbiased=False, keepdim=True)"
VALUE = "return self.gamma * (input - mean) / (var + self.eps).sqrt() + self.beta"


def layer_norm(*edits: tuple[str, str]) -> dict[str, str]:
    text = LAYER_NORM
    for old, new in edits:
        assert old in text, old
        text = text.replace(old, new)
    return {"custom_layernorm": text}


def of_shape(*shape: str) -> list[tuple[str, str]]:
    return [(f"torch.{kind}(n_neurons)", f"torch.{kind}({', '.join(shape)})") for kind in ("ones", "zeros")]


RIGHT = {
    "plain": layer_norm(),
    "rows": layer_norm(*of_shape("1", "n_neurons"), ("(grad_output * x_hat).sum(0)", "(grad_output * x_hat).sum(0, True)"),
                       ("grad_output.sum(0)", "grad_output.sum(0, True)")),
    "columns": layer_norm(*of_shape("n_neurons", "1"), (VALUE, VALUE.replace("gamma", "gamma.t()").replace(
        "beta", "beta.t()")), ("gamma * x_hat + beta", "gamma.t() * x_hat + beta.t()"),
        ("grad_output * gamma", "grad_output * gamma.t()"), ("x_hat).sum(0)", "x_hat).sum(0)[:, None]"),
        ("grad_beta = grad_output.sum(0)", "grad_beta = grad_output.sum(0)[:, None]")),
    "sums left to autograd": layer_norm(("(grad_output * x_hat).sum(0)", "grad_output * x_hat"),
                                        ("grad_beta = grad_output.sum(0)", "grad_beta = grad_output")),
    "other names": layer_norm(("self.gamma", "self.scale"), ("self.beta", "self.shift")),
    "normalized input saved": layer_norm((SAVE, "ctx.save_for_backward(x_hat, std, gamma)"),
                                         (LOAD, "x_hat, std, gamma = ctx.saved_tensors")),
    "attributes of ctx": layer_norm((SAVE, "ctx.x_hat, ctx.rest = x_hat, {'std': std, 'gamma': gamma}"), (
        LOAD, "x_hat, std, gamma = ctx.x_hat, ctx.rest['std'], ctx.rest['gamma']")),
    "eps by keyword alone": layer_norm((INIT, "def __init__(self, n_neurons, *, eps=1e-5):")),
    "more arguments": layer_norm((INIT, "def __init__(self, n, eps=1e-5, device='cpu'):\n        n_neurons = n")),
    "assert": layer_norm((SHAPE, "        assert input.shape[1] == self.n_neurons\n")),
    "both dimensions": layer_norm((SHAPE, "        if input.dim() != 2 or input.size(1) != self.n_neurons:\n"
                                          "            raise Exception('shape')\n")),
    "check in the function": layer_norm(
        (SHAPE + "        return Custom", "        return Custom"),
        ("        mean = input.mean(1, keepdim=True)\n        std",
         "        assert input.shape[-1] == gamma.numel()\n        mean = input.mean(1, keepdim=True)\n        std")),
    "instance of the function": layer_norm((APPLY, "fn = CustomLayerNormManualFunction()\n        return fn.apply("
                                                   "input, self.gamma, self.beta, self.eps)")),
    "alias of apply": layer_norm((APPLY, "f = CustomLayerNormManualFunction.apply\n"
                                         "        return f(input, self.gamma, self.beta, self.eps)")),
    "inherited": layer_norm(("class CustomLayerNormManualModule(nn.Module)",
                             "class CustomLayerNormManualModule(CustomLayerNormAutograd)"),
                            ("super(CustomLayerNormManualModule, self).__init__()", "super().__init__(n_neurons, eps)")),
    "square root by power": layer_norm((VARIANCE, "((input - mean) ** 2).sum(1, keepdim=True) / input.shape[1]")),
    "mean by a matrix product, whose room the library keeps": layer_norm(
        (SAVE, "mean = (input @ torch.full((input.shape[1], input.shape[1]), 1 / input.shape[1], dtype=input.dtype)"
               ")[:, :1].clone()\n        " + SAVE)),
    "all inputs unpacked": layer_norm(("grad_input = grad", "a, b, c, _ = ctx.needs_input_grad\n        grad_input = grad")),
}


REMARKS = ("norm_dimensions", "norm_attributes")  # checks of 0 points


@pytest.fixture(scope="module")
def right():
    return found(NUMBERS, RIGHT)


@pytest.mark.parametrize("name", RIGHT)
def test_a_right_hand_in_loses_nothing(right, name):
    assert {check: text for check, text in right[name].items() if not check.endswith(REMARKS)} == {}


def test_a_tensor_as_an_attribute_of_ctx_is_a_remark(right):
    assert {name for name, lost in right.items() if "3.2b norm_attributes" in lost} == {"attributes of ctx"}
    assert right["attributes of ctx"]["3.2b norm_attributes"].startswith(("ctx.rest holds a tensor", "ctx.x_hat holds a tensor"))


def test_an_input_of_three_dimensions_is_a_remark(right):
    shape = next(shape for _, shape in DRAWN.offered if len(shape) == 3)
    assert f"accepted {shape}" in found(["3.1"], {"3d": layer_norm(("input.shape[1] !=", "input.shape[-1] !="))})[
        "3d"]["norm_dimensions"]
    assert right["both dimensions"] == {}


BESSEL = "Bessel's correction"
SAVED = "More than one tensor of the input's size is kept for backward"
FAULTY = {
    "unbiased": (layer_norm((f"        var = {VARIANCE}", "        var = input.var(1, keepdim=True)")), {
        "3.1 norm_value": BESSEL, "3.1 norm_variance": BESSEL, "3.1 norm_gradients": BESSEL}),
    "unbiased by hand": (layer_norm((f"std = ({VARIANCE}", "std = (input.var(1, keepdim=True)")), {
        "3.2b norm_value": BESSEL, "3.2b norm_variance": BESSEL, "3.2b norm_gradients": BESSEL}),
    "by samples": (layer_norm((f"        var = {VARIANCE}", "        var = ((input - mean) ** 2).sum(1, True) / len(input)")), {
        "3.1 norm_value": "divided by the number of samples", "3.1 norm_gradients": "divided by the number of samples"}),
    "eps outside": (layer_norm(("(var + self.eps).sqrt()", "(var.sqrt() + self.eps)")), {
        "3.1 norm_value": "under the root", "3.1 norm_gradients": "under the root"}),
    "own eps": (layer_norm(("self.n_neurons, self.eps = n_neurons, eps", "self.n_neurons, self.eps = n_neurons, 1e-5")), {
        "3.1 norm_value": "The eps that is passed in is not used", "3.2c norm_calls": "eps is not passed on to the "
        "function. (made with eps=0.5; the function was given 1e-05;"}),
    "no eps to pass": (layer_norm((INIT, "def __init__(self, n_neurons):\n        eps = 1e-5")), {
        "3.1 norm_value": "The eps that is passed in is not used", "3.2c norm_calls": "eps is not passed on"}),
    "three gradients": (layer_norm(("grad_beta, None\n", "grad_beta\n")), {
        "3.2b norm_gradients": "values, but forward takes 4 inputs"}),
    "x and x-hat": (layer_norm((SAVE, "ctx.save_for_backward(input, x_hat, mean, std, gamma)"), (
        "input, mean, std, gamma =", "input, x_hat, mean, std, gamma =")), {
        "3.2b norm_saved": SAVED + ": the input, the normalized input."}),
    "centred as an attribute": (layer_norm((SAVE, SAVE + "\n        ctx.centred = input - mean")), {
        "3.2b norm_saved": SAVED + ": the input, the centred input."}),
    "beta kept": (layer_norm((SAVE, SAVE.replace("gamma", "gamma, beta")), ("std, gamma = ctx", "std, gamma, _ = ctx")), {
        "3.2b norm_saved": "beta is kept for backward"}),
    "own eps in backward": (layer_norm((SAVE, "ctx.save_for_backward(input, mean, gamma)"), (
        "input, mean, std, gamma = ctx.saved_tensors", "input, mean, gamma = ctx.saved_tensors\n"
        "        std = ((input - mean).pow(2).mean(1, keepdim=True) + 1e-5).sqrt()")), {
        "3.2b norm_gradients": "backward does not use the eps"}),
    "eps not passed": (layer_norm((APPLY, APPLY.replace(", self.eps", ""))), {
        "3.2c norm_calls": "eps is not passed on to the function. (made with eps=0.5; the function was given none;"}),
    "no beta": (layer_norm((VALUE, VALUE.replace(" + self.beta", ""))), {
        "3.1 norm_value": "beta is not added.", "3.1 norm_gradients": "beta is not added."}),
    "Jacobian kept": (layer_norm((SAVE, SAVE + "\n        ctx.j = x_hat[:, :, None] * x_hat[:, None]")), {
        "3.2b norm_saved": SAVED}),
    "no None": (layer_norm(*((f"if ctx.needs_input_grad[{i}]", "if True") for i in range(3))), {
        "3.2b norm_none": "must return None"}),
    "gamma gradient without x-hat": (layer_norm(("(grad_output * x_hat).sum(0)", "grad_output.sum(0)")), {
        "3.2b norm_gradients": "A factor of gamma in the forward pass is missing"}),
    "no variance": (layer_norm((" - x_hat * (d * x_hat).mean(1, keepdim=True)", "")), {
        "3.2b norm_gradients": "through the variance is missing"}),
    "sum of products": (layer_norm(("(d * x_hat).mean(1, keepdim=True)", "(d * x_hat).sum(1, keepdim=True)")), {
        "3.2b norm_gradients": "The sum of the incoming gradient times x-hat is not divided"}),
    "sum": (layer_norm(("d.mean(1, keepdim=True)", "d.sum(1, keepdim=True)")), {
        "3.2b norm_gradients": "The sum of the incoming gradient is not divided"}),
    "variance kept for the deviation": (layer_norm((SAVE, SAVE.replace("std", "std**2"))), {
        "3.2b norm_gradients": "backward divides by the variance where its root belongs"}),
    "variance kept for 1 over the deviation": (layer_norm(
        (SAVE, SAVE.replace("std", "std**2")), (LOAD, LOAD.replace("/ std", "* std")), (") / std\n        if", ") * std\n        if")), {
        "3.2b norm_gradients": "backward uses the variance where 1 / sqrt(variance + eps) belongs"}),
    "centred input for x-hat": (layer_norm((LOAD, LOAD.replace(") / std", ")"))), {
        "3.2b norm_gradients": "The centred input stands for x-hat"}),
    "unbiased in backward": (layer_norm((SAVE, SAVE.replace("std", "(input.var(1, keepdim=True) + eps).sqrt()"))), {
        "3.2b norm_gradients": "The variance in backward has Bessel's correction"}),
    "shape error not raised": (layer_norm((SHAPE, SHAPE.replace("raise ", "")), (
        VALUE, VALUE.replace("self.gamma *", "self.gamma.expand_as(input) *"))), {
        "3.1 norm_shapes": "refused by a check, which raises an error. (with n_neurons 1,", "3.2c norm_shapes": "compare input.shape"}),
    "gamma kept for its own gradient alone": (layer_norm(
        (SAVE, "ctx.save_for_backward(input, mean, std, gamma if ctx.needs_input_grad[1] else None)")), {
        "3.2b norm_none": "where a gradient is needed for beta alone"}),
    "deviation kept for 1 over it": (layer_norm(
        (LOAD, LOAD.replace("/ std", "* std")), (") / std\n        if", ") * std\n        if")), {
        "3.2b norm_gradients": "backward uses the standard deviation where 1 over it belongs"}),
    "input overwritten in backward": (layer_norm((LOAD, LOAD.replace("(input - mean) / std", "input.sub_(mean).div_(std)"))), {
        "3.2b norm_saved": "The input that the function is given is overwritten"}),
    "input overwritten in forward": (layer_norm(("x_hat = (input - mean) / std\n        out", "x_hat = input.sub_(mean).div_(std)\n        out"), (
        LOAD, "input, mean, std, gamma = ctx.saved_tensors\n        x_hat = input")), {
        "3.2b norm_saved": "The input that the function is given is overwritten"}),
    "beta gradient None": (layer_norm(("grad_beta = grad_output.sum(0)", "pass")), {
        "3.2b norm_gradients": "beta gets None where a gradient is wanted."}),
    "gamma and beta by one switch": (layer_norm(("if ctx.needs_input_grad[2]", "if ctx.needs_input_grad[1]")), {
        "3.2b norm_none": "beta gets None where a gradient is wanted"}),
    "all or nothing": (layer_norm(*((f"if ctx.needs_input_grad[{i}]", "if all(ctx.needs_input_grad[:3])")
                                    for i in range(3))), {
        "3.2b norm_none": "backward returns None for every input, unless all three need a gradient"}),
    "no eps in backward": (layer_norm((SAVE, "ctx.save_for_backward(input, mean, gamma)"), (
        "input, mean, std, gamma = ctx.saved_tensors", "input, mean, gamma = ctx.saved_tensors\n"
        "        std = (input - mean).pow(2).mean(1, keepdim=True).sqrt()")), {
        "3.2b norm_gradients": "backward does not use the eps that forward was given"}),
    "small eps in the last division": (layer_norm(("keepdim=True)) / std\n", "keepdim=True)) / (std**2 - (std**2 - "
                                                   "(input - mean).pow(2).mean(1, keepdim=True)) + 1e-8).sqrt()\n")), {
        "3.2b norm_gradients": "backward does not use the eps that forward was given"}),
    "eps of 1e-8 by hand": (layer_norm((f"std = ({VARIANCE} + eps)", f"std = ({VARIANCE} + 1e-8)")), {
        "3.2b norm_value": "The eps that is passed in is not used"}),
    "mean over the batch by hand": (layer_norm((
        "mean = input.mean(1, keepdim=True)\n        std", "mean = input.mean(0, keepdim=True)\n        std")), {
        "3.2b norm_value": "The mean is taken over the batch", "3.2b norm_gradients": "The mean is taken over the batch"}),
    "variance over the batch": (layer_norm((f"        var = {VARIANCE}", "        var = input.var(0, unbiased=False)")), {
        "3.1 norm_value": "The variance is taken over the batch", "3.1 norm_gradients": "The variance is taken over the batch"}),
    "batch normalization": (layer_norm((VALUE, "mean, var = input.mean(0), input.var(0, unbiased=False)\n        " + VALUE)), {
        "3.1 norm_value": "It normalizes over the batch", "3.1 norm_gradients": "[follows from norm_value, norm_variance]"}),
    "one mean and variance": (layer_norm((VALUE, "mean, var = input.mean(), input.var(unbiased=False)\n        " + VALUE)), {
        "3.1 norm_value": "over the whole batch", "3.1 norm_gradients": "[follows from norm_value, norm_variance]"}),
    "means over the batch in backward": (layer_norm(("d.mean(1, keepdim=True)", "d.mean(0)"), (
        "(d * x_hat).mean(1, keepdim=True)", "(d * x_hat).mean(0)")), {
        "3.2b norm_gradients": "The means in the gradient of the input are taken over the batch"}),
    "one mean over the batch in backward": (layer_norm(("(d * x_hat).mean(1, keepdim=True)", "(d * x_hat).mean(0)")), {
        "3.2b norm_gradients": "times x-hat is taken over the batch"}),
    "sums for means": (layer_norm(("d.mean(1, keepdim=True)", "d.sum(1, keepdim=True)"), (
        "(d * x_hat).mean(1, keepdim=True)", "(d * x_hat).sum(1, keepdim=True)")), {
        "3.2b norm_gradients": "not divided by the number of features"}),
    "gamma over the features": (layer_norm(("(grad_output * x_hat).sum(0)", "(grad_output * x_hat).sum(1)")), {
        "3.2b norm_gradients": f"a gradient of shape [{len(DRAWN.layer_norm['x'])}] for argument 2 of forward, which is of shape "
                               f"[{len(DRAWN.layer_norm['gamma'])}]"}),
    "twice the gradient": (layer_norm(("keepdim=True)) / std\n", "keepdim=True)) / std * 2\n")), {
        "3.2b norm_gradients": "Every number is 2 times the right one"}),
    "gamma and beta exchanged": (layer_norm((APPLY, APPLY.replace("self.gamma, self.beta", "self.beta, self.gamma"))), {
        "3.2c norm_calls": "The function is not given gamma as the module has it, but beta in its place."}),
    "no shape check": (layer_norm((SHAPE, "")), {
        "3.1 norm_shapes": f"accepted {BROADCAST}", "3.2c norm_shapes": f"accepted {BROADCAST}"}),
    "numbers counted": (layer_norm(("input.shape[1] != self.n_neurons", "input.numel() % self.n_neurons")), {
        f"{number} norm_shapes": f"accepted {(DRAWN.neurons, 1)}" for number in ("3.1", "3.2c")}),
    "either axis checked": (layer_norm(("input.shape[1] != self.n_neurons", "self.n_neurons not in input.shape")), {
        f"{number} norm_shapes": f"accepted {(DRAWN.neurons, 1)}" for number in ("3.1", "3.2c")}),
    "other axis checked": (layer_norm(("input.shape[1] !=", "input.shape[0] !=")), dict.fromkeys(
        ("3.1 norm_value", "3.1 norm_gradients", "3.1 norm_float32", "3.1 norm_variance", "3.1 norm_shapes",
         "3.2c norm_calls", "3.2c norm_shapes"), "wrong number of neurons")),
    "plain tensors": (layer_norm(("nn.Parameter(torch.ones(n_neurons))", "torch.ones(n_neurons)")), {
        "3.1 norm_parameters": "gamma is not an nn.Parameter", "3.2c norm_parameters": "gamma is not an nn.Parameter"}),
    "one gamma for all": (layer_norm(("torch.ones(n_neurons)", "torch.ones(1)")), dict.fromkeys(
        ("3.1 norm_parameters", "3.2c norm_parameters"), "gamma must be a parameter with a number for each neuron")),
    "normalizes by itself": (layer_norm((APPLY, VALUE.replace("return", "mean, var = input.mean(1, keepdim=True), "
                                         f"{VARIANCE}\n        return"))), {
        "3.2c norm_calls": "must call CustomLayerNormManualFunction.apply"}),
    "float64 alone": (layer_norm((VALUE, VALUE.replace("self.beta", "self.beta.double()"))), {
        "3.1 norm_float32": "must give a float32 output"}),
    "float64 rounded": (layer_norm(("        std = (", "        input = input.float()\n        std = (")), {
        "3.2b norm_value": "rounds a float64 input to float32"}),
    "float64 rounded in between": (layer_norm(("x_hat = (input - mean) / std\n        out",
                                               "x_hat = ((input - mean) / std).float().to(input.dtype)\n        out")), {
        "3.2b norm_value": "rounds a float64 input to float32"}),
    "module returns nothing": (layer_norm((VALUE, VALUE.replace("return ", ""))), dict.fromkeys(
        ("3.1 norm_value", "3.1 norm_gradients", "3.1 norm_float32", "3.1 norm_variance", "3.1 norm_shapes"),
        "CustomLayerNormAutograd.forward returns None: the return is missing.")),
    "forward returns nothing": (layer_norm(("        return out\n", "")), dict.fromkeys(
        (*(f"3.2b norm_{check}" for check in ("value", "gradients", "float32", "variance", "none", "saved")),
         "3.2c norm_shapes"), "CustomLayerNormManualFunction.forward returns None: the return is missing.")),
    "backward returns nothing": (layer_norm(("        return grad_input, grad_gamma, grad_beta, None\n", "")), dict.fromkeys(
        ("3.2b norm_gradients", "3.2b norm_none"),
        "CustomLayerNormManualFunction.backward returns None: the return is missing.")),
    "no function": (layer_norm(("class CustomLayerNormManualFunction", "class Function")), {
        **{f"3.2b {check}": "custom_layernorm.py has no class CustomLayerNormManualFunction" for check in (
            "norm_value", "norm_gradients", "norm_float32", "norm_variance", "norm_none", "norm_saved")},
        "3.2c norm_calls": "has no class", "3.2c norm_shapes": "is not defined"}),
}


@pytest.fixture(scope="module")
def faulty():
    return found(NUMBERS, {name: hand_in for name, (hand_in, _) in FAULTY.items()})


@pytest.mark.parametrize("name", FAULTY)
def test_a_fault_costs_its_own_checks_and_is_named(faulty, name):
    costs = FAULTY[name][1]
    lost = {check: text for check, text in faulty[name].items() if not check.endswith(REMARKS)}
    assert lost.keys() == costs.keys(), lost
    for check, text in costs.items():
        assert text in lost[check]


def test_what_backward_does_with_eps_is_judged_alike_in_every_class():
    hand_ins = {name: FAULTY[name][0] for name in ("no eps in backward", "variance kept for 1 over the deviation")}
    verdicts = [{name: [(text.partition(" (")[0], text[-5:]) for text in failed.values()]  # the sentence, the points
                 for name, failed in of_class.items()}
                for of_class in found_in_classes(["3.2b"], hand_ins, ["0", "q0", "q2", "q4", "q5"])]
    assert len(verdicts) == 5
    assert all(verdict == verdicts[0] for verdict in verdicts[1:]), verdicts


HIDDEN = {  # places for the normalized input, besides the input itself
    "an attribute of an object": "ctx.kept = type('Box', (), {})()\n        ctx.kept.x = x_hat",
    "the class": "CustomLayerNormManualFunction.kept = x_hat",
    "the module": "KEPT.append(x_hat)",
    "a function": "ctx.kept = lambda: x_hat",
    "memory that could be shared": "ctx.kept = lambda kept=x_hat.clone().share_memory_(): kept",
    "a set": "ctx.kept = {x_hat}",
    "bytes": "ctx.kept = x_hat.numpy().tobytes()",
    "a list of numbers": "ctx.kept = x_hat.tolist()",
    "another graph": "with torch.enable_grad():\n            ctx.kept = (x_hat * torch.ones(1, requires_grad=True)).grad_fn",
    "a thread": "import threading\n        thread = threading.Thread(target=lambda: KEPT.append(x_hat + 0))\n"
                "        thread.start()\n        thread.join()",
    "half of its precision": "ctx.kept = lambda kept=x_hat.half(): kept",
}


@pytest.fixture(scope="module")
def hiding():
    return found(["3.2b"], {name: {"custom_layernorm": layer_norm((SAVE, f"{SAVE}\n        {code}"))["custom_layernorm"]
                                   + "\nKEPT = []\n"} for name, code in HIDDEN.items()})


@pytest.mark.parametrize("name", HIDDEN)
def test_what_is_kept_is_counted_wherever_it_is(hiding, name):
    assert hiding[name].keys() == {"norm_saved"}, hiding[name]
    assert "More than one tensor of the input's size is kept for backward" in hiding[name]["norm_saved"]


def test_what_is_kept_of_small_inputs_alone_is_missed_at_a_large_one():
    small = layer_norm((SAVE, "ctx.save_for_backward(input, mean, std, gamma)\n        ctx.kept = [x_hat] if input.numel() < 5000 else []"),
                       (LOAD, "input, mean, std, gamma = ctx.saved_tensors\n        x_hat = ctx.kept[0]"))
    failed = found(["3.2b"], {"small": small})["small"]
    assert failed.keys() == {"norm_saved", "norm_attributes"} and "IndexError" in failed["norm_saved"]
