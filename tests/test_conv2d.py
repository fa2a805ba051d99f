"""The convolution of question 1.1d: its gradients, PyTorch's, and the formulas the question asks for."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings

from modules import Conv2dModule
from tests.gradients import check_module
from tests.strategies import convolutions, seeds

pytestmark = pytest.mark.q1_1d


def make(shape, n_out, kernel, rng, dtype=np.float64):
    """A convolution with random parameters, an input, and an upstream gradient for its output."""
    layer = Conv2dModule(shape[1], n_out, kernel, weight_std=1.0, rng=rng, dtype=dtype)
    layer.params["bias"] += rng.normal(size=n_out).astype(dtype)
    out = (shape[0], n_out, shape[2] - kernel[0] + 1, shape[3] - kernel[1] + 1)
    return layer, rng.normal(size=shape).astype(dtype), rng.normal(size=out).astype(dtype)


@settings(max_examples=25, deadline=None)
@given(case=convolutions(), seed=seeds)
def test_conv_gradients(case, seed):
    check_module(*make(*case, np.random.default_rng(seed)))


@settings(max_examples=50, deadline=None)
@given(case=convolutions(), seed=seeds)
def test_conv_against_torch(case, seed):
    layer, x, dout = make(*case, np.random.default_rng(seed))
    tensors = [torch.tensor(a, requires_grad=True) for a in (x, layer.params["weight"], layer.params["bias"])]
    y = F.conv2d(*tensors)
    dx, dw, db = torch.autograd.grad(y, tensors, torch.from_numpy(dout))
    np.testing.assert_allclose(layer.forward(x), y.detach(), atol=1e-12)
    np.testing.assert_allclose(layer.backward(dout), dx, atol=1e-12)
    np.testing.assert_allclose(layer.grads["weight"], dw, atol=1e-12)
    np.testing.assert_allclose(layer.grads["bias"], db, atol=1e-12)


def test_conv_at_the_size_of_cifar10_in_float32():
    layer, x, dout = make((20, 3, 32, 32), 8, (5, 5), np.random.default_rng(0), np.float32)
    tensors = [torch.tensor(a, requires_grad=True) for a in (x, layer.params["weight"], layer.params["bias"])]
    y = F.conv2d(*tensors)
    dx, dw, db = torch.autograd.grad(y, tensors, torch.from_numpy(dout))
    for ours, theirs in ((layer.forward(x), y.detach()), (layer.backward(dout), dx),
                         (layer.grads["weight"], dw), (layer.grads["bias"], db)):
        assert ours.dtype == np.float32 and ours.shape == tuple(theirs.shape)
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=2e-3)


def test_the_formulas_of_the_question():
    """Y21 in terms of X and K, dL/dK11 and dL/dX12, for one 3x3 image and one 2x2 kernel."""
    layer, x, dout = make((1, 1, 3, 3), 1, (2, 2), np.random.default_rng(0))
    layer.params["bias"][:] = 0
    X, K, dY = (np.pad(a[0, 0], ((1, 0), (1, 0))) for a in (x, layer.params["weight"], dout))  # count from 1
    y = layer.forward(x)[0, 0]
    dx = layer.backward(dout)[0, 0]
    assert y[1, 0] == pytest.approx(X[2, 1] * K[1, 1] + X[2, 2] * K[1, 2] + X[3, 1] * K[2, 1] + X[3, 2] * K[2, 2])
    assert layer.grads["weight"][0, 0, 0, 0] == pytest.approx(
        dY[1, 1] * X[1, 1] + dY[1, 2] * X[1, 2] + dY[2, 1] * X[2, 1] + dY[2, 2] * X[2, 2])
    assert dx[0, 1] == pytest.approx(dY[1, 1] * K[1, 2] + dY[1, 2] * K[1, 1])


def test_kernel_size_is_a_number_or_a_pair():
    assert Conv2dModule(3, 4, 5).params["weight"].shape == (4, 3, 5, 5)
    assert Conv2dModule(3, 4, (2, 5)).params["weight"].shape == (4, 3, 2, 5)
    assert Conv2dModule(3, 4, 5).params["bias"].shape == (4,)


@pytest.mark.parametrize("shape", [(3, 8, 8), (1, 2, 8, 8), (1, 3, 4, 8), (1, 3, 8, 4)])
def test_conv_names_both_shapes(shape):
    with pytest.raises(ValueError, match=r"\(S, 3, >= 5, >= 5\), got \(\d"):
        Conv2dModule(3, 4, 5).forward(np.ones(shape))
