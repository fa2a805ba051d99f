"""Breaks each backward formula in turn and shows that the tests go red.

    python -m tests.mutations              # every mutant: the tests that caught it, or SURVIVED
    python -m tests.mutations softmax      # those whose name contains a word

A mutant is one file with one piece of text replaced. PyTorch, NumPy and pytest are imported once; each mutant then gets
a process forked from there, in which the mutated source takes the file's place and the tests named run. Every one of
them must fail, and all must pass when nothing is replaced. Exit status 1 otherwise.
"""

import gc
import json
import os
import sys
import types
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
LINEAR = ("test_modules.py::test_linear_gradients",)
CONV = ("test_conv2d.py::test_conv_gradients",)
SOFTMAX = ("test_modules.py::test_softmax_gradient",)
LOSS = ("test_modules.py::test_cross_entropy_gradient",)
LAYER = "test_layernorm.py::TestLayerNormManualFunction::"
BATCH = "test_batchnorm.py::TestBatchNormManualFunction::"
NORM_GRADIENTS = ("test_gradcheck", "test_value_and_gradients_against_torch")


def activation(name: str) -> tuple[str, ...]:
    return (f"test_modules.py::test_activation_gradients[{name}Module]",)


def layer(*tests: str) -> tuple[str, ...]:
    return tuple(LAYER + test for test in tests)


def batch(*tests: str) -> tuple[str, ...]:
    return tuple(BATCH + test for test in tests)


@dataclass(frozen=True)
class Mutation:
    """`old`, which stands once in `file`, becomes `new`; each of `tests` (files in tests/) must then fail."""

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]

    def source(self) -> str:
        text = (ROOT / self.file).read_text()
        if text.count(self.old) != 1:
            raise ValueError(f"mutation {self.name!r}: {self.old!r} stands {text.count(self.old)} times in {self.file}")
        return text.replace(self.old, self.new)


MUTATIONS = [
    Mutation("linear dW: divided by the batch", "modules.py", "np.matmul(dout.T, self.x,", "np.matmul(dout.T, self.x / len(dout),", LINEAR),
    Mutation("linear dW: of the output's sign", "modules.py", "np.matmul(dout.T, self.x,", "np.matmul(np.abs(dout).T, self.x,", LINEAR),
    Mutation("linear db: mean for sum", "modules.py", "np.sum(dout, axis=0,", "np.mean(dout, axis=0,", LINEAR),
    Mutation("linear db: wrong axis", "modules.py", 'np.sum(dout, axis=0, keepdims=True, out=self.grads["bias"])',
             'self.grads["bias"][...] = dout.sum(axis=1).sum()', LINEAR),
    Mutation("linear dX: missing", "modules.py", 'dout @ self.params["weight"] if input_grad',
             "np.zeros_like(self.x) if input_grad", LINEAR),
    Mutation("linear dX: weights' sign lost", "modules.py", 'dout @ self.params["weight"] if input_grad',
             'dout @ np.abs(self.params["weight"]) if input_grad', LINEAR),
    Mutation("linear forward: no bias", "modules.py", 'y = x @ weight.T\n        y += self.params["bias"]',
             "y = x @ weight.T", ("test_modules.py::test_linear_against_torch", *LINEAR)),
    Mutation("elu: slope 1 everywhere", "modules.py", "return dout * self.slope", "return dout * 1", activation("ELU")),
    Mutation("elu: slope exp(x) above 0 too", "modules.py", "self.slope = np.exp(negative)",
             "self.slope = np.exp(np.minimum(x, 99))", activation("ELU")),
    Mutation("elu: slope 0 at 0", "modules.py", "return dout * self.slope",
             "return dout * np.where(self.slope == 1, np.where(self.slope < 1, 1, 0), self.slope)",
             ("test_modules.py::test_activations_at_the_kink",)),
    Mutation("relu: slope on the wrong side", "modules.py", "dout * (self.x > 0)", "dout * (self.x < 0)", activation("ReLU")),
    Mutation("relu: slope 1 at 0", "modules.py", "dout * (self.x > 0)", "dout * (self.x >= 0)",
             ("test_modules.py::test_activations_at_the_kink",)),
    Mutation("tanh: y for y squared", "modules.py", "1 - self.y * self.y", "1 - self.y", activation("Tanh")),
    Mutation("sigmoid: without y", "modules.py", "dout * self.y * (1 - self.y)", "dout * (1 - self.y)",
             activation("Sigmoid")),
    Mutation("sigmoid: overflow below", "modules.py", "np.exp(-np.abs(x))", "np.exp(-x)",
             ("test_modules.py::test_activations_are_finite_and_silent_far_out",)),
    Mutation("softmax: no cross term", "modules.py",
             "self.y * (dout - (dout * self.y).sum(axis=1, keepdims=True))", "self.y * dout * (1 - self.y)", SOFTMAX),
    Mutation("softmax: zero gradient", "modules.py",
             "self.y * (dout - (dout * self.y).sum(axis=1, keepdims=True))", "np.zeros_like(dout)", SOFTMAX),
    Mutation("softmax: cross term over the batch", "modules.py", "(dout * self.y).sum(axis=1, keepdims=True)",
             "(dout * self.y).sum(axis=0, keepdims=True)", SOFTMAX),
    Mutation("softmax: maximum not subtracted", "modules.py", "np.exp(x - x.max(axis=1, keepdims=True))", "np.exp(x)",
             ("test_modules.py::test_softmax_and_loss_are_finite_at_logits_of_1000",)),
    Mutation("cross-entropy: gradient not divided by the batch", "modules.py", "y / (-len(x) * x)", "-y / x", LOSS),
    Mutation("cross-entropy: gradient divided twice", "modules.py", "y / (-len(x) * x)", "y / (-(len(x) ** 2) * x)",
             LOSS),
    Mutation("cross-entropy: softmax gradient put here", "modules.py", "y / (-len(x) * x)", "(x - y) / len(x)", LOSS),
    Mutation("cross-entropy: infinite at p = 0", "modules.py", "np.maximum(x, np.finfo(x.dtype).tiny)", "x",
             ("test_modules.py::test_softmax_and_loss_are_finite_at_logits_of_1000",)),
    Mutation("conv dK: divided by the batch", "modules.py",
             "np.tensordot(dout, self.windows, axes=((0, 2, 3), (0, 2, 3)))",
             "np.tensordot(dout, self.windows, axes=((0, 2, 3), (0, 2, 3))) / len(dout)", CONV),
    Mutation("conv dK: flipped", "modules.py", "np.tensordot(dout, self.windows, axes=((0, 2, 3), (0, 2, 3)))",
             "np.tensordot(dout, self.windows, axes=((0, 2, 3), (0, 2, 3)))[:, :, ::-1, ::-1]", CONV),
    Mutation("conv db: of one sample", "modules.py", "dout.sum(axis=(0, 2, 3))", "dout[0].sum(axis=(1, 2))", CONV),
    Mutation("conv dX: kernel not flipped", "modules.py", "weight[:, :, ::-1, ::-1]", "weight", CONV),
    Mutation("conv forward: kernel flipped", "modules.py", "np.tensordot(self.windows, weight,",
             "np.tensordot(self.windows, weight[:, :, ::-1, ::-1],",
             ("test_conv2d.py::test_conv_against_torch", "test_conv2d.py::test_the_formulas_of_the_question")),
    Mutation("mlp: one activation object for all layers", "mlp_numpy.py", "ACTIVATIONS[activation]()]",
             'self.__dict__.setdefault("shared", ACTIVATIONS[activation]())]',
             ("test_mlp_numpy.py::test_layers",)),
    Mutation("mlp: softmax skipped in backward", "mlp_numpy.py", "reversed(self.layers[1:])",
             "reversed(self.layers[1:-1])", ("test_mlp_numpy.py::test_mlp_gradients",)),
    Mutation("layer norm dbeta: mean for sum", "custom_layernorm.py", "dbeta = dy.sum(", "dbeta = dy.mean(",
             layer(*NORM_GRADIENTS)),
    Mutation("layer norm dgamma: that of beta", "custom_layernorm.py", "dgamma = product.sum(dim=0)",
             "dgamma = dy.sum(dim=0)", layer(*NORM_GRADIENTS)),
    Mutation("layer norm dX: gamma left out", "custom_layernorm.py", "dx = torch.mul(dy, gamma, out=product)",
             "dx = product.copy_(dy)", layer(*NORM_GRADIENTS)),
    Mutation("layer norm dX: mean's path left out", "custom_layernorm.py", "dx.sum(dim=1, keepdim=True).addcmul_",
             "dx.sum(dim=1, keepdim=True).zero_().addcmul_", layer(*NORM_GRADIENTS)),
    Mutation("layer norm dX: variance's path left out", "custom_layernorm.py",
             "slope = product.mul_(gamma).sum(dim=1, keepdim=True).mul_(rstd)",
             "slope = product.mul_(gamma).sum(dim=1, keepdim=True).mul_(0)", layer(*NORM_GRADIENTS)),
    Mutation("layer norm dX: not divided by the deviation", "custom_layernorm.py",
             ".sub_(offset, alpha=1 / n_neurons).mul_(rstd)", ".sub_(offset, alpha=1 / n_neurons)",
             layer(*NORM_GRADIENTS)),
    Mutation("layer norm: unbiased variance", "custom_layernorm.py", ".div_(input.shape[1])", ".div_(input.shape[1] - 1)",
             layer("test_value_and_gradients_against_torch")),
    Mutation("layer norm: eps outside of the root", "custom_layernorm.py", ".add_(eps).rsqrt_()",
             ".sqrt_().add_(eps).reciprocal_()", layer("test_value_and_gradients_against_torch")),
    Mutation("layer norm: x-hat saved", "custom_layernorm.py", "gamma if need_x else None)",
             "gamma if need_x else None, (input - mean) * rstd)", layer("test_saved_tensors")),
    Mutation("layer norm: a gradient nobody wants", "custom_layernorm.py", "            if need_gamma:\n",
             "            if True:\n", layer("test_backward_returns_none_where_nothing_is_wanted")),
    Mutation("layer norm: half-precision gradients multiplied in half precision", "custom_layernorm.py",
             "dy = dy.to(rstd.dtype)", "dy = dy", layer("test_value_and_gradients_against_torch")),
    Mutation("layer norm by autograd: unbiased variance", "custom_layernorm.py",
             "centered.square().mean(dim=1, keepdim=True)", "x.var(dim=1, keepdim=True)",
             ("test_layernorm.py::TestLayerNormAutograd::test_value_and_gradients_against_torch",)),
    Mutation("layer norm module: does not call the function", "custom_layernorm.py",
             "CustomLayerNormManualFunction.apply(input, self.gamma, self.beta, self.eps)",
             "nn.functional.layer_norm(input, (self.n_neurons,), self.gamma, self.beta, self.eps)",
             ("test_layernorm.py::TestLayerNormManualModule::test_it_calls_the_function",
              "test_layernorm.py::TestLayerNormManualModule::test_none_of_torchs_own_normalization")),
    Mutation("batch norm dbeta: mean for sum", "custom_batchnorm.py", "dbeta = dy.sum(", "dbeta = dy.mean(",
             batch(*NORM_GRADIENTS)),
    Mutation("batch norm dgamma: not divided by the deviation", "custom_batchnorm.py",
             "product.sum(dim=0).mul_(rstd)", "product.sum(dim=0)", batch(*NORM_GRADIENTS)),
    Mutation("batch norm dX: mean's path left out", "custom_batchnorm.py", "dx.sub_(dbeta, alpha=1 / len(x)).mul_",
             "dx.mul_", batch(*NORM_GRADIENTS)),
    Mutation("batch norm dX: variance's path left out", "custom_batchnorm.py", "value=-1 / len(x), out=centered",
             "value=0, out=centered", batch(*NORM_GRADIENTS)),
    Mutation("batch norm dX: gamma left out", "custom_batchnorm.py", ".mul_(gamma * rstd)", ".mul_(rstd)",
             batch(*NORM_GRADIENTS)),
    Mutation("batch norm: unbiased variance", "custom_batchnorm.py", ".div_(len(input))", ".div_(len(input) - 1)",
             batch("test_value_and_gradients_against_torch")),
    Mutation("batch norm: x-hat saved", "custom_batchnorm.py", "gamma if need_x else None)",
             "gamma if need_x else None, (input - mean) * rstd)", batch("test_saved_tensors")),
    Mutation("batch norm: a gradient nobody wants", "custom_batchnorm.py", "dgamma if need_gamma else None", "dgamma",
             batch("test_backward_returns_none_where_nothing_is_wanted")),
]


class Outcomes:
    """A pytest plugin: which of `wanted` ran, and in which of them a check failed. A mutant that crashes proves nothing."""

    CHECKS = ("AssertionError", "GradcheckError", "Failed", "FloatingPointError", "RuntimeWarning")

    def __init__(self, wanted: tuple[str, ...]) -> None:
        self.wanted, self.ran, self.failed = wanted, set[str](), set[str]()

    def pytest_runtest_makereport(self, item, call) -> None:
        tests = [test for test in self.wanted if item.nodeid.split("/")[-1].startswith(test)]
        if call.when == "call":
            self.ran.update(tests)
        if call.excinfo is not None and call.excinfo.typename in self.CHECKS:
            self.failed.update(tests)


def run_tests(mutation: Mutation) -> dict[str, list[str]]:
    """Which of the mutation's tests ran and which failed. Replaces modules: for a process of its own."""
    import pytest

    mutant = types.ModuleType(Path(mutation.file).stem)
    mutant.__file__ = str(ROOT / mutation.file)
    sys.modules[mutant.__name__] = mutant
    exec(compile(mutation.source(), mutant.__file__, "exec"), mutant.__dict__)
    outcomes = Outcomes(mutation.tests)
    tests = [str(ROOT / "tests" / test) for test in mutation.tests]
    pytest.main(["-p", "no:cacheprovider", "-p", "no:unraisableexception", "--noconftest", "--rootdir", str(ROOT),
                 "--hypothesis-profile=mutants", "--tb=no", *tests], plugins=[outcomes])
    return {"ran": sorted(outcomes.ran), "failed": sorted(outcomes.failed)}


def in_a_fork(mutation: Mutation) -> dict[str, list[str]]:
    """`run_tests` in a forked process, whose output goes nowhere."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        os.dup2(nowhere, 2)
        try:
            with os.fdopen(write, "w") as pipe:
                json.dump(run_tests(mutation), pipe)
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read) as pipe:
        answer = pipe.read()
    os.waitpid(child, 0)
    return json.loads(answer) if answer else {"ran": [], "failed": []}


def main(words: list[str]) -> int:
    import torch
    from hypothesis import Phase, settings

    torch.set_num_threads(1)  # a forked process must not inherit a pool of threads
    gc.freeze()
    settings.register_profile("mutants", phases=[Phase.generate], database=None, derandomize=True,
                              report_multiple_bugs=False)
    chosen = [m for m in MUTATIONS if any(word in m.name for word in words or [""])]
    survived = 0
    for mutation in chosen:
        passed = set(mutation.tests) - set(in_a_fork(mutation)["failed"])
        survived += bool(passed)
        print(f"{'SURVIVED' if passed else 'caught':8s} {mutation.name} ({mutation.file})", *sorted(passed), flush=True)

    tests = tuple(sorted({test for mutation in chosen for test in mutation.tests}))
    control = in_a_fork(Mutation("control", "modules.py", "class LinearModule(Module):", "class LinearModule(Module):", tests))
    red = set(control["failed"]) | (set(tests) - set(control["ran"]))
    print(f"{len(chosen)} mutants, {survived} survived; without a mutation {len(red)} of {len(tests)} tests fail", *red)
    return 1 if survived or red or not chosen else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
