"""The ops of the autodiff: every gradient at every index, and proof that a wrong one would show."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from gradients import assert_gradient, numerical_gradient
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import mutually_broadcastable_shapes
from strategies import seeds

import autodiff_numpy as ad
from autodiff_numpy import TensorNode

pytestmark = pytest.mark.systems
sizes = st.integers(1, 4)


# ---------------------------------------------------------------- the gradient check


def is_variable(x: object) -> bool:
    return isinstance(x, np.ndarray) and x.dtype.kind == "f"


def check_gradients(op: type, inputs: list, seed: int = 0) -> None:
    """The op's backward, through the graph, against central differences under a random upstream gradient."""
    nodes = [TensorNode(x) if is_variable(x) else x for x in inputs]
    out = op.do_forward(*nodes)
    dout = np.asarray(np.random.default_rng(seed).standard_normal(out.shape))
    received = dict(out.source.backward({out: dout}))
    for position, x in enumerate(inputs):
        if is_variable(x):
            def forward(value: np.ndarray, position: int = position) -> np.ndarray:
                context = ad.Context(needs_grad=(True,) * len(inputs))
                return op.forward(context, *inputs[:position], value, *inputs[position + 1:])

            expected = numerical_gradient(forward, x, dout)
            assert_gradient(f"{op.__name__}, input {position}", expected, received[nodes[position]], x)


# ---------------------------------------------------------------- one case per op


@dataclass(frozen=True)
class Case:
    """An op, how to draw its inputs, and the same function in torch."""

    op: type
    inputs: Callable[..., list]  # (draw, rng) -> arrays and constants
    torch: Callable


def matrix(draw, rng):
    return [rng.standard_normal((draw(sizes), draw(sizes)))]


def pair(draw, rng):
    shapes = draw(mutually_broadcastable_shapes(num_shapes=2, max_dims=3, min_side=1, max_side=4)).input_shapes
    return [rng.standard_normal(shape) for shape in shapes]


def divisible(draw, rng):
    x, y = pair(draw, rng)
    return [x, np.copysign(0.5 + np.abs(y), y)]


def off_the_kink(draw, rng):
    x, = matrix(draw, rng)
    return [np.copysign(0.01 + np.abs(x), x)]


def positive(draw, rng):
    return [0.3 + rng.random((draw(sizes), draw(sizes)))]


def matrices(draw, rng):
    n, d, m = draw(sizes), draw(sizes), draw(sizes)
    return [rng.standard_normal((n, d)), rng.standard_normal((d, m))]


def vector_and_columns(draw, rng):
    return [rng.standard_normal(draw(sizes)), draw(sizes)]


def array_and_axis(draw, rng):
    x = rng.standard_normal(tuple(draw(st.lists(sizes, min_size=1, max_size=3))))
    axes = st.lists(st.integers(0, x.ndim - 1), min_size=1, max_size=x.ndim, unique=True).map(tuple)
    return [x, draw(st.one_of(st.none(), st.integers(-x.ndim, x.ndim - 1), axes))]


def scores_and_targets(draw, rng):
    x, = matrix(draw, rng)
    return [x, rng.integers(0, x.shape[1], len(x))]


CASES = [
    Case(ad.Add, pair, torch.add),
    Case(ad.Subtract, pair, torch.sub),
    Case(ad.Multiply, pair, torch.mul),
    Case(ad.Divide, divisible, torch.div),
    Case(ad.MatMul, matrices, torch.matmul),
    Case(ad.Expand, vector_and_columns, lambda x, columns: torch.outer(x, torch.ones(columns, dtype=x.dtype))),
    Case(ad.Sum, array_and_axis, lambda x, axis: x.sum() if axis is None else x.sum(dim=axis)),
    Case(ad.Log, positive, torch.log),
    Case(ad.Exp, matrix, torch.exp),
    Case(ad.Sigmoid, matrix, torch.sigmoid),
    Case(ad.ReLU, off_the_kink, torch.relu),
    Case(ad.Tanh, matrix, torch.tanh),
    Case(ad.Normalize, positive, lambda x: x / x.sum(dim=-1, keepdim=True)),
    Case(ad.LogSoftmax, matrix, lambda x: torch.log_softmax(x, dim=-1)),
    Case(ad.NLLLoss, scores_and_targets, lambda x, t: torch.nn.functional.nll_loss(x, torch.from_numpy(t))),
]
each_op = pytest.mark.parametrize("case", CASES, ids=lambda case: case.op.__name__)


def test_every_op_has_a_case():
    ops = {x for x in vars(ad).values() if isinstance(x, type) and issubclass(x, ad.Op) and x is not ad.Op}
    assert ops == {case.op for case in CASES}


@each_op
@settings(max_examples=25, deadline=None)
@given(data=st.data(), seed=seeds)
def test_every_index_against_central_differences(case, data, seed):
    check_gradients(case.op, case.inputs(data.draw, np.random.default_rng(seed)), seed)


@each_op
@settings(max_examples=25, deadline=None)
@given(data=st.data(), seed=seeds)
def test_value_and_gradients_against_torch(case, data, seed):
    rng = np.random.default_rng(seed)
    inputs = case.inputs(data.draw, rng)
    nodes = [TensorNode(x) if is_variable(x) else x for x in inputs]
    theirs = [torch.tensor(x, requires_grad=True) if is_variable(x) else x for x in inputs]
    ours, expected = case.op.do_forward(*nodes), case.torch(*theirs)
    np.testing.assert_allclose(ours.value, expected.detach().numpy(), rtol=1e-12, atol=1e-12)
    dout = rng.standard_normal(ours.shape)
    expected.backward(torch.from_numpy(np.asarray(dout)))
    received = dict(ours.source.backward({ours: dout}))
    for node, tensor in zip(nodes, theirs, strict=True):
        if isinstance(node, TensorNode):
            np.testing.assert_allclose(received[node], tensor.grad.numpy(), rtol=1e-10, atol=1e-12)


@each_op
def test_float32_stays_float32(case):
    inputs = [x.astype(np.float32) if is_variable(x) else x for x in example(case)]
    nodes = [TensorNode(x) if is_variable(x) else x for x in inputs]
    loss = (case.op.do_forward(*nodes) * 2.0 - 1.0).sum()
    loss.backward()
    assert loss.value.dtype == np.float32
    assert all(node.grad.dtype == np.float32 for node in nodes if isinstance(node, TensorNode))


def example(case: Case) -> list:
    """Inputs of the case on which every mutation below must show: 3 x 3 where shapes are free."""
    drawn = {vector_and_columns: [np.array([0.5, -1.2, 2.0]), 4], array_and_axis: [None, 1]}.get(case.inputs)
    rng = np.random.default_rng(1)
    if case.inputs in (pair, divisible):
        return [rng.standard_normal((3, 3)), 0.5 + rng.random(3)]
    if case.inputs is array_and_axis:
        return [rng.standard_normal((3, 3)), 1]
    return drawn or case.inputs(lambda strategy: 3, rng)


# ---------------------------------------------------------------- wrong backwards are caught

MUTATIONS = {
    "scaled": lambda gradient: gradient * 1.01,
    "negated": lambda gradient: -gradient,
    "dropped": lambda gradient: gradient * 0,
    "shifted": lambda gradient: gradient + 0.01,
    "reversed": lambda gradient: np.flip(gradient),
}


@each_op
@pytest.mark.parametrize("mutation", MUTATIONS)
def test_a_broken_backward_fails_the_check(case, mutation, monkeypatch):
    inputs = example(case)
    check_gradients(case.op, inputs)
    right = case.op.backward
    for position in (i for i, x in enumerate(inputs) if is_variable(x)):
        def broken(context, g, position=position):
            results = right(context, g)
            results = list(results) if isinstance(results, tuple) else [results]
            results[position] = MUTATIONS[mutation](results[position])
            return tuple(results)

        monkeypatch.setattr(case.op, "backward", staticmethod(broken))
        with pytest.raises(AssertionError, match=case.op.__name__):
            check_gradients(case.op, inputs)


def wrong(op: type, backward: Callable) -> type:
    return type(f"Wrong{op.__name__}", (op,), {"backward": staticmethod(backward)})


# What is easily forgotten, term by term. The first two have been published as the right form.
WRONG_FORMS = {
    "d(X/Y)/dY without its minus sign": wrong(ad.Divide, lambda c, g: (
        g / c.y, ad.unbroadcast(g * c.x / c.y**2, c.y.shape))),
    "row-normalise, the diagonal term alone": wrong(ad.Normalize, lambda c, g: g / c.s - g * c.y / c.s),
    "division, Y not squared": wrong(ad.Divide, lambda c, g: (g / c.y, ad.unbroadcast(-g * c.x / c.y, c.y.shape))),
    "product, the factors swapped": wrong(ad.Multiply, lambda c, g: (g * c.x, ad.unbroadcast(g * c.y, c.y.shape))),
    "sigmoid without 1 - Y": wrong(ad.Sigmoid, lambda c, g: g * c.y),
    "tanh without the square": wrong(ad.Tanh, lambda c, g: g * (1 - c.y)),
    "ReLU without the mask": wrong(ad.ReLU, lambda c, g: g),
    "log-softmax, the diagonal term alone": wrong(ad.LogSoftmax, lambda c, g: g * (1 - np.exp(c.y))),
    "sum, averaged": wrong(ad.Sum, lambda c, g: (ad.Sum.backward(c, g / 3)[0], None)),
    "expand, one column alone": wrong(ad.Expand, lambda c, g: (g[:, 0], None)),
    "loss, summed instead of averaged": wrong(ad.NLLLoss, lambda c, g: (
        ad.NLLLoss.backward(c, g * len(c.targets))[0], None)),
    "matrix product, dW transposed": wrong(ad.MatMul, lambda c, g: (g @ c.w.T, (c.x.T @ g).T)),
    "matrix product, W not transposed": wrong(ad.MatMul, lambda c, g: (g @ c.w, c.x.T @ g)),
}


@pytest.mark.parametrize("name", WRONG_FORMS)
def test_a_wrong_form_fails_the_check(name):
    op = WRONG_FORMS[name]
    case = next(case for case in CASES if issubclass(op, case.op))
    check_gradients(case.op, example(case))
    with pytest.raises(AssertionError, match="Wrong"):
        check_gradients(op, example(case))


def test_a_broadcast_gradient_that_is_not_summed_is_refused():
    unsummed = wrong(ad.Add, lambda context, g: (g, g))
    with pytest.raises(ValueError, match=r"WrongAdd.backward gave a gradient of shape \(2, 3\).*shape \(3,\)"):
        unsummed.do_forward(TensorNode(np.ones((2, 3))), TensorNode(np.ones(3))).sum().backward()


# ---------------------------------------------------------------- what a context keeps


@each_op
def test_context_holds_only_what_backward_needs(case):
    """No array beside the inputs and the output, except smaller ones: a mask of bytes, a sum for each row."""
    inputs = example(case)
    nodes = [TensorNode(x) if is_variable(x) else x for x in inputs]
    out = case.op.do_forward(*nodes)
    for name, kept in vars(out.source.context).items():
        if isinstance(kept, np.ndarray) and not any(kept is x for x in (out.value, *inputs)):
            assert kept.nbytes < inputs[0].nbytes, name


@each_op
def test_backward_needs_all_that_the_context_holds(case):
    inputs = example(case)
    node = case.op.do_forward(*(TensorNode(x) if is_variable(x) else x for x in inputs))
    dout = np.ones(node.shape)
    for name in set(vars(node.source.context)) - {"needs_grad"}:
        context = ad.Context(**{key: value for key, value in vars(node.source.context).items() if key != name})
        with pytest.raises(AttributeError, match=name):
            case.op.backward(context, dout)
