"""The graph of the autodiff: gradients through any shape of it, what is refused, and the memory it gives back."""

import doctest
import gc
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import autodiff_numpy as ad
from autodiff_numpy import OpNode, TensorNode, topological_order

pytestmark = pytest.mark.systems
ROOT = Path(__file__).parent.parent


# ---------------------------------------------------------------- the graph


def test_the_graph_that_a_sum_leaves():
    a, b = TensorNode(np.arange(8.0).reshape(4, 2)), TensorNode(np.ones((4, 2)))
    c = a + b
    np.testing.assert_array_equal(c.value, a.value + b.value)
    assert c.source.op is ad.Add and c.source.inputs == (a, b) and c.source.outputs == (c,)
    assert a.source is None
    for node in (a, b, c):
        np.testing.assert_array_equal(node.grad, np.zeros((4, 2)))
    assert "source=Add" in repr(c)


def test_operators_mean_what_numpy_means():
    rng = np.random.default_rng(0)
    x, y, w = rng.random((2, 3)) + 1, rng.random((2, 3)) + 1, rng.random((3, 4))
    a, b, v = TensorNode(x), TensorNode(y), TensorNode(w)
    for ours, numpys in [
        (a + b, x + y), (a - b, x - y), (a * b, x * y), (a / b, x / y), (a @ v, x @ w), (-a, -x),
        (a + 2, x + 2), (2 + a, x + 2), (a - 2, x - 2), (2 - a, 2 - x), (a * 2, x * 2), (2 * a, x * 2), (a / 2, x / 2),
        (2 / a, 2 / x), (y + a, x + y), (y - a, y - x), (y * a, x * y), (y / a, y / x), (x @ v, x @ w), (a @ w, x @ w),
        (a.sum(), x.sum()), (a.sum(axis=0), x.sum(axis=0)), (a.sum((0, 1)), x.sum()), (a.log(), np.log(x)),
        (a.exp(), np.exp(x)), (a.tanh(), np.tanh(x)), (a.relu(), x), (a.sigmoid(), 1 / (1 + np.exp(-x))),
        (a.normalize(), x / x.sum(1, keepdims=True)), (a.sum(1).expand(2), np.outer(x.sum(1), np.ones(2))),
        (a.normalize().log(), np.log(x / x.sum(1, keepdims=True))), (a.log().log_softmax().exp(), a.normalize().value),
        (a.nll_loss(np.array([2, 0])), -(x[0, 2] + x[1, 0]) / 2),
    ]:
        assert isinstance(ours, TensorNode)
        np.testing.assert_allclose(ours.value, numpys, rtol=1e-14)


def test_gradients_add_up_over_the_uses_of_a_node():
    x = TensorNode(np.array([1.0, 2.0, 3.0]))
    (x * x + 2 * x + x).sum().backward()
    np.testing.assert_allclose(x.grad, 2 * x.value + 3)


def test_diamonds_are_walked_once_each():
    x = TensorNode(1.0)
    y = x
    for _ in range(60):  # 2^60 paths, 60 ops
        y = y + y
    assert len(topological_order(y)) == 60
    y.backward()
    assert x.grad == 2.0**60


@settings(max_examples=60, deadline=None)
@given(data=st.data(), seed=st.integers(0, 2**32 - 1))
def test_any_graph_against_torch(data, seed):
    """Nodes drawn at random from all earlier ones, so that many feed several others at several depths."""
    rng = np.random.default_rng(seed)
    values = [rng.standard_normal((3, 3)) for _ in range(2)]
    ours, theirs = [TensorNode(v) for v in values], [torch.tensor(v, requires_grad=True) for v in values]
    unary = [("tanh", torch.tanh), ("sigmoid", torch.sigmoid), ("log_softmax", lambda x: torch.log_softmax(x, -1))]
    binary = [lambda x, y: x + y, lambda x, y: x - y, lambda x, y: x * y, lambda x, y: x @ y,
              lambda x, y: x / (y * y + 1.0)]
    for _ in range(data.draw(st.integers(1, 12))):
        i, j = (data.draw(st.integers(0, len(ours) - 1)) for _ in range(2))
        which = data.draw(st.integers(0, len(unary) + len(binary) - 1))
        if which < len(unary):
            method, function = unary[which]
            ours.append(getattr(ours[i], method)())
            theirs.append(function(theirs[i]))
        else:
            function = binary[which - len(unary)]
            # tanh keeps what grows with every product within reach of the tolerance
            ours.append(function(ours[i], ours[j]).tanh())
            theirs.append(torch.tanh(function(theirs[i], theirs[j])))
    ours[-1].sum().backward()
    theirs[-1].sum().backward()
    for node, tensor in zip(ours[:2], theirs[:2], strict=True):
        expected = np.zeros((3, 3)) if tensor.grad is None else tensor.grad.numpy()
        np.testing.assert_allclose(node.grad, expected, rtol=1e-9, atol=1e-9)


def test_each_op_comes_after_those_it_depends_on():
    x = TensorNode(np.ones(2))
    h = x.exp()
    loss = (h * x + h.log() * h - x).sum()
    order = topological_order(loss)
    place = {node: i for i, node in enumerate(order)}
    assert len(order) == len(place) == 7
    for node in order:
        for tensor in (x for x in node.inputs if isinstance(x, TensorNode)):
            assert tensor.source is None or place[tensor.source] < place[node]


def test_backward_twice_adds_the_same_gradient_twice():
    x = TensorNode(np.array([0.5, -1.0]))
    loss = (x.exp() * x.tanh()).exp().sum()
    loss.backward()
    once = x.grad.copy()
    loss.backward()
    np.testing.assert_allclose(x.grad, 2 * once, rtol=1e-15)


def test_two_losses_on_one_subgraph_add_up():
    x = TensorNode(np.array([0.5, -1.0]))
    h = x.exp()
    (2 * h).sum().backward()
    (3 * h).sum().backward()
    np.testing.assert_allclose(x.grad, 5 * np.exp(x.value), rtol=1e-15)


def test_zero_grad_clears_a_parameter_or_a_whole_graph():
    x, y = TensorNode(np.ones(3)), TensorNode(np.full(3, 2.0))
    h = x * y
    loss = h.sum()
    loss.backward()
    x.zero_grad()
    np.testing.assert_array_equal(x.grad, np.zeros(3))
    np.testing.assert_array_equal(y.grad, np.ones(3))
    loss.zero_grad()
    for node in (x, y, h, loss):
        np.testing.assert_array_equal(node.grad, np.zeros_like(node.value))
    loss.backward()
    np.testing.assert_array_equal(x.grad, y.value)


def test_a_parameters_gradient_is_its_own():
    a, b = TensorNode(np.ones(3)), TensorNode(np.ones(3))
    c = a + b
    c.sum().backward()
    a.grad *= 5
    np.testing.assert_array_equal(b.grad, np.ones(3))
    np.testing.assert_array_equal(c.grad, np.ones(3))
    d = TensorNode(np.ones((2, 2)))
    d.sum().backward()
    d.grad *= 5  # a broadcast view could not be written to
    np.testing.assert_array_equal(d.grad, np.full((2, 2), 5.0))


@pytest.mark.parametrize("shape", [(2,), (1, 2), (0,), (3, 3)])
def test_backward_wants_a_scalar(shape):
    with pytest.raises(ValueError, match=rf"scalar.*shape \({', '.join(map(str, shape))},?\)"):
        (TensorNode(np.ones(shape)) * 2).backward()


@pytest.mark.parametrize("shape", [(), (1,), (1, 1)])
def test_one_element_of_any_shape_is_a_scalar(shape):
    x = TensorNode(np.full(shape, 3.0))
    (x * x).backward()
    np.testing.assert_array_equal(x.grad, np.full(shape, 6.0))


def test_ten_thousand_nodes_in_a_row():
    x = TensorNode(np.ones(2))
    y = x
    for _ in range(10_000):
        y = y * 1.0001
    assert sys.getrecursionlimit() < 10_000
    y.sum().backward()
    np.testing.assert_allclose(x.grad, 1.0001**10_000)


def test_a_graph_of_100_000_nodes_is_freed_without_overflow():
    """In a process of its own: an overflow of the C stack would take the tests with it."""
    code = ("from autodiff_numpy import TensorNode\nx = TensorNode(1.0)\ny = x\n"
            "for _ in range(100_000): y = y + 1.0\ny.backward()\ndel y\nprint(x.grad)")
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "1.0"), done.stderr


class Halves(ad.Op):
    """An op with two outputs."""

    @staticmethod
    def forward(context, x):
        return x[: len(x) // 2].copy(), x[len(x) // 2:].copy()

    @staticmethod
    def backward(context, g1, g2):
        return np.concatenate([g1, g2])


@pytest.mark.parametrize("keep", [True, False])
def test_an_output_that_the_loss_ignores_has_gradient_zero(keep):
    x = TensorNode(np.arange(4.0))
    first, second = Halves.do_forward(x)
    other = first if keep else None
    del first
    (second * second).sum().backward()
    np.testing.assert_array_equal(x.grad, [0, 0, 4, 6])
    assert second.source.outputs == (other, second)


def test_constants_get_no_gradient():
    x, w = np.ones((2, 3)), TensorNode(np.ones((3, 4)))
    h = x @ w
    assert isinstance(h, TensorNode) and h.source.inputs[0] is x
    assert h.source.context.w is None  # needed for dX alone, which is not wanted
    h.sum().backward()
    np.testing.assert_array_equal(w.grad, np.full((3, 4), 2.0))
    assert h.source.op.backward(h.source.context, np.ones((2, 4)))[0] is None


def test_a_gradient_has_the_dtype_of_its_value():
    x, y = TensorNode(np.ones(3, np.float32)), TensorNode(np.ones(()))
    (x * np.full(3, 2.0) * y).sum().backward()
    assert (x.grad.dtype, y.grad.dtype) == (np.float32, np.float64)
    assert isinstance(y.grad, np.ndarray) and y.grad.shape == ()


# ---------------------------------------------------------------- what is refused, what stays finite


@pytest.mark.parametrize("value", ["a", 1j, None, ["x"]])
def test_only_real_numbers(value):
    with pytest.raises(TypeError, match="real numbers"):
        TensorNode(value)


@pytest.mark.parametrize(("value", "dtype"), [([1, 2], np.float64), (True, np.float64), (np.float32(1), np.float32),
                                              (np.ones(2, np.float16), np.float16)])
def test_floats_are_kept_and_integers_become_float64(value, dtype):
    assert TensorNode(value).value.dtype == dtype


@pytest.mark.parametrize(("x", "w"), [((2, 3), (2, 3)), ((3,), (3, 2)), ((2, 3), (3,)), ((1, 2, 3), (3, 2))])
def test_matmul_names_both_shapes(x, w):
    with pytest.raises(ValueError) as error:
        TensorNode(np.ones(x)) @ TensorNode(np.ones(w))
    assert str(x) in str(error.value) and str(w) in str(error.value)


@pytest.mark.parametrize("targets", [[0, 3], [-1, 0], [0], [0.0, 1.0], [[0], [1]], [True, False]])
def test_targets_that_are_no_class_indices(targets):
    with pytest.raises(ValueError, match="NLLLoss wants"):
        TensorNode(np.ones((2, 3))).nll_loss(np.array(targets))


def test_an_op_must_be_subclassed():
    with pytest.raises(NotImplementedError):
        ad.Op.do_forward(TensorNode(1.0))
    with pytest.raises(NotImplementedError):
        ad.Op.backward(ad.Context(needs_grad=(True,)), np.ones(1))


def test_a_backward_with_too_few_gradients_is_refused():
    class Short(ad.Multiply):
        @staticmethod
        def backward(context, g):
            return (g * context.y,)

    with pytest.raises(ValueError, match="zip"):
        Short.do_forward(TensorNode(1.0), TensorNode(2.0)).backward()


def test_no_gradient_for_a_node_is_refused():
    class Forgetful(ad.Exp):
        @staticmethod
        def backward(context, g):
            return None

    with pytest.raises(ValueError, match=r"Forgetful.backward gave"):
        Forgetful.do_forward(TensorNode(1.0)).backward()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("function", ["sigmoid", "tanh", "relu", "log_softmax"])
def test_large_inputs_stay_finite(function, dtype):
    """Overflow warnings are errors here, see pyproject.toml."""
    x = TensorNode(np.array([[-1e3, 0.0, 1e3], [1e3, 1e3, -1e3]], dtype))
    y = getattr(x, function)()
    (y * y).sum().backward()
    assert np.isfinite(y.value).all() and np.isfinite(x.grad).all()


def test_relu_has_slope_zero_at_its_kink():
    x = TensorNode(np.array([-1.0, 0.0, -0.0, 1.0]))
    x.relu().sum().backward()
    np.testing.assert_array_equal(x.grad, [0, 0, 0, 1])


# ---------------------------------------------------------------- memory


def train_steps(parameters: list[TensorNode], steps: int) -> None:
    rng = np.random.default_rng(0)
    w1, b1, w2, b2 = parameters
    for _ in range(steps):
        x, targets = rng.random((16, 20), np.float32), rng.integers(0, 5, 16)
        loss = ((x @ w1 + b1).sigmoid() @ w2 + b2).log_softmax().nll_loss(targets)
        loss.backward()
        for parameter in parameters:
            parameter.value -= 0.1 * parameter.grad
            parameter.zero_grad()


def leaked_by_training(steps: int) -> tuple[int, int]:
    """(graph objects, bytes) that are alive after `steps` more training steps and were not before; collector off."""
    parameters = [TensorNode(np.ones(shape, np.float32)) for shape in [(20, 30), (30,), (30, 5), (5,)]]
    gc.collect()
    gc.disable()
    tracemalloc.start()
    try:
        def alive() -> int:
            return sum(type(x) in (TensorNode, OpNode, ad.Context) for x in gc.get_objects())

        train_steps(parameters, 400)  # by then Python's lists of free small tuples are as long as they get
        objects, memory = alive(), tracemalloc.get_traced_memory()[0]
        train_steps(parameters, steps)
        return alive() - objects, tracemalloc.get_traced_memory()[0] - memory
    finally:
        tracemalloc.stop()
        gc.enable()
        gc.collect()


def test_memory_is_flat_without_the_garbage_collector():
    objects, memory = leaked_by_training(200)
    assert objects == 0
    assert memory < 5_000  # the graph of one step has 20,000


def test_a_reference_cycle_would_be_noticed(monkeypatch):
    init = OpNode.__init__

    def with_cycle(self, op, context, inputs, outputs):
        init(self, op, context, inputs, outputs)
        self.strong = outputs

    monkeypatch.setattr(OpNode, "__init__", with_cycle)
    objects, memory = leaked_by_training(20)
    assert objects > 20 * 7 and memory > 20 * 5_000


# ---------------------------------------------------------------- the whole


@pytest.mark.parametrize("activation", ["sigmoid", "relu", "tanh"])
def test_twenty_steps_with_torch(activation):
    rng = np.random.default_rng(0)
    values = [rng.standard_normal(shape) * 0.5 for shape in [(7, 9), (9,), (9, 4), (4,)]]
    ours = [TensorNode(v.copy()) for v in values]
    theirs = [torch.tensor(v, requires_grad=True) for v in values]
    optimizer = torch.optim.SGD(theirs, 0.3)
    for step in range(20):
        x, targets = rng.standard_normal((11, 7)), rng.integers(0, 4, 11)
        loss = (getattr(x @ ours[0] + ours[1], activation)() @ ours[2] + ours[3]).log_softmax().nll_loss(targets)
        loss.backward()
        hidden = getattr(torch, activation)(torch.from_numpy(x) @ theirs[0] + theirs[1])
        expected = torch.nn.functional.cross_entropy(hidden @ theirs[2] + theirs[3], torch.from_numpy(targets))
        optimizer.zero_grad()
        expected.backward()
        assert abs(float(loss.value) - expected.item()) < 1e-10, step
        for node, tensor in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(node.grad, tensor.grad.numpy(), rtol=1e-8, atol=1e-10)
            node.value -= 0.3 * node.grad
            node.zero_grad()
        optimizer.step()


def test_the_modules_own_example():
    assert doctest.testmod(ad).attempted > 0
    assert doctest.testmod(ad).failed == 0


def test_it_needs_numpy_alone():
    code = "import sys, autodiff_numpy; print(sorted({'torch', 'modules', 'training', 'scipy'} & set(sys.modules)))"
    assert subprocess.check_output([sys.executable, "-c", code], cwd=ROOT, text=True).strip() == "[]"
