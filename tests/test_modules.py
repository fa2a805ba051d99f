"""The layers of question 1.1: gradients, agreement with PyTorch, stability, and what they leave alone."""

import ast
import inspect
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings

import modules
from modules import (
    ACTIVATIONS,
    Conv2dModule,
    CrossEntropyModule,
    ELUModule,
    LeakyReLUModule,
    LinearModule,
    ReLUModule,
    SigmoidModule,
    SoftMaxModule,
    TanhModule,
)
from tests.gradients import assert_gradient, check_module, numerical_gradient
from tests.strategies import any_shapes, matrix_shapes, seeds, sizes

few = settings(max_examples=25, deadline=None)
activations = pytest.mark.parametrize("activation", [*ACTIVATIONS.values(), LeakyReLUModule])
TORCH = {LeakyReLUModule: lambda x: F.leaky_relu(x, 0.02), ELUModule: F.elu, ReLUModule: F.relu, TanhModule: torch.tanh, SigmoidModule: torch.sigmoid}
LIMITS = {LeakyReLUModule: (-0.02e30, 1e30), ELUModule: (-1, 1e30), ReLUModule: (0, 1e30), TanhModule: (-1, 1), SigmoidModule: (0, 1)}  # at -1e30, 1e30


def linear(n_in, n_out, rng, dtype=np.float64):
    layer = LinearModule(n_in, n_out, weight_std=1.0, rng=rng, dtype=dtype)
    layer.params["bias"] += rng.normal(size=(1, n_out)).astype(dtype)
    return layer


def one_hot(labels, n_classes=10, dtype=np.float64):
    return np.eye(n_classes, dtype=dtype)[labels]


def read_only(*arrays):
    for array in arrays:
        array.setflags(write=False)
    return arrays


# Gradients at every index against central differences, with a random upstream gradient.


@pytest.mark.q1_1a
@few
@given(shape=matrix_shapes, n_out=sizes, seed=seeds)
def test_linear_gradients(shape, n_out, seed):
    rng = np.random.default_rng(seed)
    check_module(linear(shape[1], n_out, rng), rng.normal(size=shape), rng.normal(size=(shape[0], n_out)))


@pytest.mark.q1_1b
@activations
@few
@given(shape=any_shapes, seed=seeds)
def test_activation_gradients(activation, shape, seed):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=shape) * 2
    x += np.copysign(1e-3, x)  # the kink has a test of its own
    check_module(activation(), x, rng.normal(size=shape))


@pytest.mark.q1_1c
@few
@given(shape=matrix_shapes, seed=seeds)
def test_softmax_gradient(shape, seed):
    rng = np.random.default_rng(seed)
    check_module(SoftMaxModule(), rng.normal(size=shape) * 2, rng.normal(size=shape))


@pytest.mark.q1_1c
@few
@given(shape=matrix_shapes, seed=seeds)
def test_cross_entropy_gradient(shape, seed):
    """For one-hot targets and for any other distribution over the classes."""
    rng = np.random.default_rng(seed)
    x = rng.uniform(0.05, 1, shape)
    module = CrossEntropyModule()
    for y in (one_hot(rng.integers(0, shape[1], shape[0]), shape[1]), rng.dirichlet(np.ones(shape[1]), shape[0])):
        expected = numerical_gradient(lambda x, y=y: module.forward(x, y), x, 1.0)
        assert_gradient("CrossEntropyModule", expected, module.backward(x, y), x)


@pytest.mark.q1_1b
def test_activations_at_the_kink():
    """ELU'(0) = 1, where both one-sided derivatives meet; ReLU'(0) = 0, the one from the left."""
    x = np.array([0.0, -0.0])
    for module, slope, left, right in ((ELUModule(), 1, 1, 1), (ReLUModule(), 0, 0, 1),
                                       (LeakyReLUModule(0.3), 0.3, 0.3, 1)):
        np.testing.assert_array_equal(module.forward(x), 0)
        np.testing.assert_array_equal(module.backward(np.full(2, 3.0)), 3.0 * slope)
        h = 1e-7
        assert (module.forward(np.array([h])) - 0)[0] / h == pytest.approx(right, abs=1e-6)
        assert (0 - module.forward(np.array([-h])))[0] / h == pytest.approx(left, abs=1e-6)
        module.forward(np.array([-1e-300, 1e-300]))
        np.testing.assert_array_equal(module.backward(np.ones(2)), [left, right])


# Values and gradients against PyTorch.


@pytest.mark.q1_1b
@activations
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_activations_against_torch(activation, dtype):
    x = np.concatenate([np.linspace(-30, 30, 601), np.logspace(-12, 0, 50), -np.logspace(-12, 0, 50)]).astype(dtype)
    dout = np.random.default_rng(0).normal(size=x.shape).astype(dtype)
    theirs = torch.tensor(x, requires_grad=True)
    assert activation in TORCH, "add its PyTorch twin to TORCH"
    expected = TORCH[activation](theirs)
    expected.backward(torch.from_numpy(dout))
    module = activation()
    eps = np.finfo(dtype).eps
    np.testing.assert_allclose(module.forward(x), expected.detach(), rtol=8 * eps, atol=0)
    np.testing.assert_allclose(module.backward(dout), theirs.grad, rtol=8 * eps, atol=8 * eps)


@pytest.mark.q1_1a
def test_linear_against_torch():
    rng = np.random.default_rng(0)
    layer, x, dout = linear(7, 4, rng), rng.normal(size=(5, 7)), rng.normal(size=(5, 4))
    tensors = [torch.tensor(a, requires_grad=True) for a in (x, layer.params["weight"], layer.params["bias"][0])]
    y = F.linear(*tensors)
    dx, dw, db = torch.autograd.grad(y, tensors, torch.from_numpy(dout))
    np.testing.assert_allclose(layer.forward(x), y.detach(), rtol=1e-12)
    np.testing.assert_allclose(layer.backward(dout), dx, rtol=1e-12)
    np.testing.assert_allclose(layer.grads["weight"], dw, rtol=1e-12)
    np.testing.assert_allclose(layer.grads["bias"], db[None], rtol=1e-12)
    assert layer.grads["bias"].shape == (1, 4)


@pytest.mark.q1_1c
@pytest.mark.parametrize("scale", [1.0, 50.0])
def test_softmax_and_loss_against_torch(scale):
    rng = np.random.default_rng(0)
    x, labels = rng.normal(size=(8, 10)) * scale, rng.integers(0, 10, 8)
    softmax, loss = SoftMaxModule(), CrossEntropyModule()
    logits = torch.tensor(x, requires_grad=True)
    expected = F.cross_entropy(logits, torch.from_numpy(labels))
    expected.backward()
    p = softmax.forward(x)
    np.testing.assert_allclose(p, torch.softmax(logits, 1).detach(), rtol=1e-12)
    assert loss.forward(p, one_hot(labels)) == pytest.approx(expected.item(), rel=1e-12)
    np.testing.assert_allclose(softmax.backward(loss.backward(p, one_hot(labels))), logits.grad, atol=1e-14)


# Stability.


@pytest.mark.q1_1b
@activations
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_activations_are_finite_and_silent_far_out(activation, dtype):
    x = np.array([-1e30, -1e3, -1e2, 0, 1e2, 1e3, 1e30], dtype)
    module = activation()
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        y, dx = module.forward(x), module.backward(np.ones_like(x))
    assert np.isfinite(y).all() and np.isfinite(dx).all()
    assert activation in LIMITS, "add its values far out to LIMITS"
    bottom, top = LIMITS[activation]
    np.testing.assert_allclose([y[0], y[-1]], [bottom, top], rtol=1e-6)
    assert dx[0] == pytest.approx(bottom / -1e30) and dx[-1] == (1 if top == 1e30 else 0)


@pytest.mark.q1_1c
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_softmax_and_loss_are_finite_at_logits_of_1000(dtype):
    x = np.array([[1e3, -1e3, 0], [-1e3, -1e3, -1e3], [1e3, 1e3, -1e3]], dtype)
    y = one_hot([1, 0, 2], 3, dtype)  # the first and last sample: probability 0 for the right class
    softmax, loss = SoftMaxModule(), CrossEntropyModule()
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        p = softmax.forward(x)
        value, dp = loss.forward(p, y), loss.backward(p, y)
        dx = softmax.backward(dp)
    np.testing.assert_allclose(p, [[1, 0, 0], [1 / 3] * 3, [0.5, 0.5, 0]], atol=1e-6)
    floor = -math.log(np.finfo(dtype).tiny)
    assert value == pytest.approx((2 * floor + math.log(3)) / 3, rel=1e-6)
    assert np.isfinite(dp).all() and np.isfinite(dx).all()


@pytest.mark.q1_1c
@few
@given(shape=matrix_shapes, seed=seeds)
def test_softmax_rows_are_distributions_and_ignore_a_shift(shape, seed):
    x = np.random.default_rng(seed).normal(size=shape) * 10
    p = SoftMaxModule().forward(x)
    np.testing.assert_allclose(p.sum(1), 1, rtol=1e-12)
    np.testing.assert_allclose(SoftMaxModule().forward(x + 500), p, rtol=1e-10)


@pytest.mark.q1_1c
def test_softmax_and_loss_on_a_batch_of_one():
    p = SoftMaxModule().forward(np.log([[1.0, 2.0, 5.0]]))
    np.testing.assert_allclose(p, [[0.125, 0.25, 0.625]])
    y = one_hot([1], 3)
    assert CrossEntropyModule().forward(p, y) == pytest.approx(math.log(4))
    np.testing.assert_allclose(CrossEntropyModule().backward(p, y), [[0, -4, 0]])


@pytest.mark.q1_1c
def test_the_loss_is_the_mean_over_the_batch():
    rng = np.random.default_rng(0)
    p, y = rng.dirichlet(np.ones(4), 3), one_hot([0, 3, 3], 4)
    module = CrossEntropyModule()
    assert module.forward(np.tile(p, (5, 1)), np.tile(y, (5, 1))) == pytest.approx(module.forward(p, y))
    np.testing.assert_allclose(module.backward(np.tile(p, (5, 1)), np.tile(y, (5, 1)))[:3] * 5, module.backward(p, y))


# State, dtypes, initial values, bad input.


KINDS = {LinearModule: pytest.mark.q1_1a, **dict.fromkeys([*ACTIVATIONS.values(), LeakyReLUModule], pytest.mark.q1_1b),
         SoftMaxModule: pytest.mark.q1_1c, Conv2dModule: pytest.mark.q1_1d}
each_kind = pytest.mark.parametrize("kind", [pytest.param(kind, marks=mark) for kind, mark in KINDS.items()])


def module_and_input(kind, seed=0, dtype=np.float64):
    rng = np.random.default_rng(seed)
    matrix = rng.normal(size=(4, 5)).astype(dtype)
    if kind is LinearModule:
        return linear(5, 3, rng, dtype), matrix
    if kind is Conv2dModule:
        return Conv2dModule(2, 3, 2, weight_std=1.0, rng=rng, dtype=dtype), rng.normal(size=(2, 2, 4, 5)).astype(dtype)
    return kind(), matrix


@each_kind
def test_two_instances_share_no_state(kind):
    """Forward a, forward b, backward a: a's gradients are those of a alone."""
    (alone, x), (a, _), (b, other) = (module_and_input(kind, seed) for seed in (0, 0, 1))
    dout = np.random.default_rng(2).normal(size=alone.forward(x).shape)
    expected = alone.backward(dout)
    a.forward(x)
    b.forward(other)
    b.backward(2 * dout)
    np.testing.assert_array_equal(a.backward(dout), expected)
    for key, gradient in getattr(alone, "grads", {}).items():
        np.testing.assert_array_equal(a.grads[key], gradient)


@each_kind
def test_a_second_backward_replaces_the_gradients(kind):
    module, x = module_and_input(kind)
    dout = np.ones_like(module.forward(x))
    first = module.backward(dout), {key: g.copy() for key, g in getattr(module, "grads", {}).items()}
    module.forward(x)
    np.testing.assert_array_equal(module.backward(dout), first[0])
    for key, gradient in first[1].items():
        np.testing.assert_array_equal(module.grads[key], gradient)


@each_kind
def test_what_the_caller_owns_is_left_alone(kind):
    """Inputs, upstream gradients and parameters are read-only here, so that writing to one raises."""
    module, x = module_and_input(kind)
    read_only(x, *getattr(module, "params", {}).values())
    y = module.forward(x)
    (dout,) = read_only(np.ones_like(y))
    dx = module.backward(dout)
    assert not np.shares_memory(y, x) and not np.shares_memory(dx, dout)


@pytest.mark.q1_1c
def test_the_loss_leaves_its_arguments_alone():
    p, y = read_only(np.full((2, 4), 0.25), one_hot([0, 1], 4))
    CrossEntropyModule().forward(p, y)
    CrossEntropyModule().backward(p, y)


@each_kind
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_everything_stays_in_the_dtype_given(kind, dtype):
    module, x = module_and_input(kind, dtype=dtype)
    y = module.forward(x)
    assert y.dtype == dtype and module.backward(y).dtype == dtype
    assert all(g.dtype == dtype for g in getattr(module, "grads", {}).values())


@each_kind
@pytest.mark.parametrize("dtype", [np.uint8, np.int64, bool, np.complex64])
def test_a_dtype_that_cannot_hold_the_result_is_refused(kind, dtype):
    """Softmax of uint8 logits, for one, would be that of logits wrapped around at 256."""
    module, x = module_and_input(kind)
    with pytest.raises(TypeError, match=rf"{kind.__name__} .* got {np.dtype(dtype)}: cast .* x\.astype\(np.float32\)"):
        module.forward(np.ones(x.shape, dtype))


@pytest.mark.q1_1c
def test_the_loss_refuses_integer_probabilities():
    for call in (CrossEntropyModule().forward, CrossEntropyModule().backward):
        with pytest.raises(TypeError, match=r"CrossEntropyModule .* got int64"):
            call(np.eye(3, dtype=np.int64), np.eye(3))


@pytest.mark.q1_1c
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_loss_takes_targets_of_any_dtype(dtype):
    p = np.full((2, 4), 0.25, dtype)
    for target_dtype in (np.float32, np.float64, np.int64, np.uint8):
        assert CrossEntropyModule().backward(p, one_hot([0, 1], 4, target_dtype)).dtype == dtype


@pytest.mark.q1_1a
def test_initial_parameters():
    """Weights of mean 0 and standard deviation 0.0001, zero bias; reproducible from a generator and a global seed."""
    layer = LinearModule(400, 300)
    weight = layer.params["weight"]
    assert weight.shape == (300, 400) and layer.params["bias"].shape == (1, 300)
    n = weight.size
    assert abs(weight.mean()) < 5e-4 / math.sqrt(n)                      # five standard errors
    assert abs(weight.std() / 1e-4 - 1) < 5 / math.sqrt(2 * n)
    assert abs(np.mean(np.abs(weight) < 1e-4) - 0.6827) < 5 * math.sqrt(0.25 / n)  # and normal
    assert not layer.params["bias"].any()
    assert {k: v.shape for k, v in layer.grads.items()} == {"weight": (300, 400), "bias": (1, 300)}
    assert LinearModule(400, 300, weight_std=0.1).params["weight"].std() == pytest.approx(0.1, rel=0.02)
    draws = [LinearModule(3, 2, rng=np.random.default_rng(7)).params["weight"] for _ in range(2)]
    np.testing.assert_array_equal(*draws)
    draws = []
    for _ in range(2):
        np.random.seed(7)
        draws.append(LinearModule(3, 2).params["weight"])
    np.testing.assert_array_equal(*draws)


@pytest.mark.parametrize("kind", [pytest.param(kind, marks=KINDS[kind]) for kind in (LinearModule, Conv2dModule)])
def test_input_grad_false_skips_the_input_gradient_alone(kind):
    module, x = module_and_input(kind)
    dout = np.ones_like(module.forward(x))
    module.backward(dout)
    expected = {key: gradient.copy() for key, gradient in module.grads.items()}
    assert module.backward(dout, input_grad=False) is None
    for key, gradient in expected.items():
        np.testing.assert_array_equal(module.grads[key], gradient)


@pytest.mark.q1_1a
def test_linear_fills_the_same_arrays_again():
    layer, x = module_and_input(LinearModule)
    arrays = dict(layer.grads)
    layer.backward(np.ones_like(layer.forward(x)))
    assert all(layer.grads[key] is array and array.any() for key, array in arrays.items())


@pytest.mark.q1_1a
@pytest.mark.parametrize("shape", [(5,), (2, 4), (1, 5, 5)])
def test_linear_names_both_shapes(shape):
    with pytest.raises(ValueError, match=rf"\(S, 5\), got \({shape[0]},"):
        LinearModule(5, 3).forward(np.ones(shape))


@pytest.mark.q1_1c
@pytest.mark.parametrize(("x", "y"), [((2, 3), (2,)), ((2, 3), (2, 1)), ((2, 3), (3,)), ((3,), (3,))])
def test_the_loss_refuses_what_would_broadcast(x, y):
    for call in (CrossEntropyModule().forward, CrossEntropyModule().backward):
        with pytest.raises(ValueError, match="one-hot targets of one shape"):
            call(np.full(x, 0.3), np.ones(y))


@pytest.mark.q1_2
def test_no_python_loop():
    """No layer iterates: neither over samples, nor over features or positions."""
    loops = (ast.For, ast.While, ast.comprehension)
    for function in ast.walk(ast.parse(inspect.getsource(modules))):
        if isinstance(function, ast.FunctionDef) and function.name in ("forward", "backward", "_checked"):
            assert not [node.lineno for node in ast.walk(function) if isinstance(node, loops)], function.name
