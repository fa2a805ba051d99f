"""The NumPy MLP of question 1.2: its gradients end to end, its layers, and the ladder every network climbs."""

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlp_numpy import MLP
from modules import ACTIVATIONS, CrossEntropyModule, LinearModule, SoftMaxModule
from tests.gradients import assert_gradient, numerical_gradient
from tests.strategies import seeds

pytestmark = pytest.mark.q1_2
HIDDEN = [[], [4], [5, 4, 3]]


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("n_hidden", HIDDEN)
@settings(max_examples=5, deadline=None)
@given(n_samples=st.integers(1, 4), seed=seeds)
def test_mlp_gradients(n_hidden, activation, n_samples, seed):
    """The loss's gradient in every weight and bias, at every index, against central differences."""
    rng = np.random.default_rng(seed)
    mlp = MLP(6, n_hidden, 3, activation, weight_std=0.7, rng=rng, dtype=np.float64)
    for _, module, key in mlp.parameters():
        module.params[key] += rng.normal(0, 0.1, module.params[key].shape)  # biases: dead ReLUs put the next at its kink
    loss = CrossEntropyModule()
    x, y = rng.normal(size=(n_samples, 6)), np.eye(3)[rng.integers(0, 3, n_samples)]
    mlp.backward(loss.backward(mlp.forward(x), y))
    received = {name: module.grads[key].copy() for name, module, key in mlp.parameters()}
    for name, module, key in mlp.parameters():
        original = module.params[key]

        def forward(value, module=module, key=key):
            module.params[key] = value
            return loss.forward(mlp.forward(x), y)

        expected = numerical_gradient(forward, original, 1.0)
        module.params[key] = original
        assert_gradient(f"MLP {n_hidden} {activation}, {name}", expected, received[name], x)


@pytest.mark.parametrize("n_hidden", HIDDEN)
def test_layers(n_hidden):
    mlp = MLP(6, n_hidden, 3, "tanh")
    kinds = [LinearModule, ACTIVATIONS["tanh"]] * len(n_hidden) + [LinearModule, SoftMaxModule]
    assert [type(layer) for layer in mlp.layers] == kinds
    assert len({id(layer) for layer in mlp.layers}) == len(mlp.layers), "a layer is used twice"
    widths = [6, *n_hidden, 3]
    assert [layer.params["weight"].shape[::-1] for layer in mlp.layers[::2]] == list(pairwise(widths))
    assert mlp.n_parameters == sum((n_in + 1) * n_out for n_in, n_out in pairwise(widths))
    names = [name for name, _, _ in mlp.parameters()]
    assert len(names) == len(set(names)) == 2 * (len(n_hidden) + 1)


def test_two_networks_share_nothing():
    a, b = MLP(6, [4], 3), MLP(6, [4], 3)
    arrays = [[array for _, module, key in mlp.parameters() for array in (module.params[key], module.grads[key])]
              for mlp in (a, b)]
    assert not any(np.shares_memory(u, v) for u in arrays[0] for v in arrays[1])


def test_the_default_is_elu_in_float32():
    mlp = MLP(6, [4], 3)
    p = mlp.forward(np.ones((2, 6), np.float32))
    mlp.backward(CrossEntropyModule().backward(p, np.eye(3)[:2]))  # float64 targets
    assert type(mlp.layers[1]) is ACTIVATIONS["elu"]
    assert p.dtype == np.float32 and all(m.grads[k].dtype == np.float32 for _, m, k in mlp.parameters())


@pytest.mark.parametrize("n_hidden", HIDDEN)
def test_a_batch_of_one(n_hidden):
    p = MLP(6, n_hidden, 3).forward(np.ones((1, 6), np.float32))
    assert p.shape == (1, 3) and p.sum() == pytest.approx(1)


def test_unknown_activation_names_the_known():
    with pytest.raises(ValueError, match=r"'swish'.*elu, relu, tanh, sigmoid"):
        MLP(6, [4], 3, "swish")


# The ladder: loss at the start, a few images by heart.


def random_images(n_images, seed=0):
    """Noise in the range of mean-subtracted pixels, (N, 3072), and labels."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 10, n_images)
    return rng.normal(0, 60, (n_images, 3072)).astype(np.float32), np.eye(10, dtype=np.float32)[labels]


@pytest.mark.parametrize("n_hidden", [[], [100], [100, 50, 20]])
def test_the_initial_loss_is_ln_10(n_hidden):
    x, y = random_images(200)
    p = MLP(3072, n_hidden, 10, rng=np.random.default_rng(0)).forward(x)
    assert CrossEntropyModule().forward(p, y) == pytest.approx(math.log(10), abs=0.15 if n_hidden == [] else 0.01)


@pytest.mark.parametrize("activation", ["elu", "relu"])
def test_fifty_images_are_learnt_by_heart(activation):
    """Plain gradient descent at the default learning rate gets all 50 right."""
    x, y = random_images(50)
    mlp, loss = MLP(3072, [100], 10, activation, rng=np.random.default_rng(0)), CrossEntropyModule()
    for _ in range(200):
        p = mlp.forward(x)
        mlp.backward(loss.backward(p, y))
        for _, module, key in mlp.parameters():
            module.params[key] -= 1e-3 * module.grads[key]
    p = mlp.forward(x)
    assert (p.argmax(1) == y.argmax(1)).all()
    assert loss.forward(p, y) < 0.1


def test_it_shows_its_layers():
    assert repr(MLP(3072, [100], 10)) == (
        "MLP(LinearModule 3072 -> 100, ELUModule, LinearModule 100 -> 10, SoftMaxModule; 308,310 parameters)")
    with pytest.raises(AttributeError, match="call forward first"):
        MLP(6, [4], 3).backward(np.ones((1, 3), np.float32))
