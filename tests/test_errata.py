"""Every erratum of report/errata.typ: the published form disagrees with central differences, the right one agrees.

A check is registered under the erratum's name; the names in the document and those checked must be the same.
"""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from gradients import numerical_gradient

from modules import ReLUModule
from networks.studynet import StudyNet

DOCUMENT = Path(__file__).parent.parent / "report" / "errata.typ"
B, M, N, EPS = 5, 4, 3, 1e-5
CHECKS = {}


def erratum(name):
    def register(function):
        CHECKS[name] = function
        return function
    return register


def compare(published, right, numerical):
    """The right form is the numerical gradient; the published one has another shape or is far from it."""
    np.testing.assert_allclose(right, numerical, rtol=1e-6, atol=1e-7)
    assert np.shape(published) != np.shape(numerical) or np.abs(published - numerical).max() > 1e-2


@erratum("relu-argument")
def relu_argument(rng):
    x, g = rng.normal(size=M), rng.normal(size=M)
    x[0] = -abs(x[0])  # so that the two differ for any draw
    largest = np.eye(M)[x.argmax()] * g.sum()  # the gradient where every output is the largest entry
    compare(largest, g * (x > 0), numerical_gradient(lambda v: np.maximum(0, v), x, g))


def softmax(z):
    return np.exp(z) / np.exp(z).sum()


@erratum("loss-row")
def loss_row(rng):
    z, target = rng.normal(size=M), 1
    s, t = softmax(z), np.eye(M)[target]
    published = np.where(t == 1, -1 / s[target] * s[target] * (1 - s), 0)
    compare(published, s - t, numerical_gradient(lambda v: -np.log(softmax(v)[target]), z, 1.0))


def batchnorm(rng):
    """x, gamma, dL/dy, mean, variance, normalized x, and the numerical dL/dx, of BatchNorm over the rows."""
    x, gamma, g = rng.normal(size=(B, M)), rng.normal(size=M) + 2, rng.normal(size=(B, M))
    y = lambda v: gamma * (v - v.mean(0)) / np.sqrt(v.var(0) + EPS)  # noqa: E731
    mu, var = x.mean(0), x.var(0)
    return x, gamma, g, mu, var, (x - mu) / np.sqrt(var + EPS), numerical_gradient(y, x, g)


def through(jacobian, gamma, g):
    """dL/dx_rj = sum_s dL/dy_sj gamma_j d(xhat_sj)/dx_rj, for a jacobian of shape (s, r, j)."""
    return np.einsum("sj,j,srj->rj", g, gamma, jacobian)


def pieces(x, mu, var):
    """delta_sr of shape (B, B, 1); x_s - mu; x_r - mu; sqrt(var + eps), which broadcast to (s, r, j)."""
    return np.eye(B)[:, :, None], (x - mu)[:, None, :], (x - mu)[None, :, :], np.sqrt(var + EPS)


@erratum("quotient-rule")
def quotient_rule(rng):
    x, gamma, g, mu, var, _, numerical = batchnorm(rng)
    same, dev_s, dev_r, root = pieces(x, mu, var)
    second = dev_s / (2 * root) * 2 / B * dev_r
    published = (root / (same - 1 / B) - second) / root**2
    compare(through(published, gamma, g), through((root * (same - 1 / B) - second) / root**2, gamma, g), numerical)


@erratum("normalized-index")
def normalized_index(rng):
    _, gamma, g, _, var, xhat, numerical = batchnorm(rng)
    form = lambda h: gamma / (B * np.sqrt(var + EPS)) * (B * g - g.sum(0) - h * (g * xhat).sum(0))  # noqa: E731
    compare(form(np.roll(xhat, 1, axis=1)), form(xhat), numerical)  # another feature's
    compare(form(np.roll(xhat, 1, axis=0)), form(xhat), numerical)  # another sample's


@erratum("division-sign")
def division_sign(rng):
    x, y, g = rng.normal(size=(B, M)), rng.normal(size=(B, M)) + 4, rng.normal(size=(B, M))
    compare(g * x / y**2, -g * x / y**2, numerical_gradient(lambda v: x / v, y, g))


@erratum("matmul-sums")
def matmul_sums(rng):
    x, w, g = rng.normal(size=(B, M)), rng.normal(size=(M, N)), rng.normal(size=(B, N))
    numerical_w = numerical_gradient(lambda v: x @ v, w, g)
    numerical_x = numerical_gradient(lambda v: v @ w, x, g)
    for n in range(B):
        compare(np.outer(x[n], g[n]), np.einsum("ni,nj->ij", x, g), numerical_w)
    for j in range(N):
        compare(np.outer(g[:, j], w[:, j]), np.einsum("nj,ij->ni", g, w), numerical_x)


def row_normalised(rng):
    x, g = rng.uniform(1, 2, size=(M, M)), rng.normal(size=(M, M))
    z = x.sum(1, keepdims=True)
    right = g / z - (g * x).sum(1, keepdims=True) / z**2
    return x, g, z, right, numerical_gradient(lambda v: v / v.sum(1, keepdims=True), x, g)


@erratum("row-diagonal")
def row_diagonal(rng):
    x, g, z, right, numerical = row_normalised(rng)
    compare(g * (1 / z - x / z**2), right, numerical)


@erratum("dot-product")
def dot_product(rng):
    x, g, z, right, numerical = row_normalised(rng)  # square, so that the matrix product exists at all
    compare(g / z - (g @ x) / z**2, right, numerical)
    compare(g / z - (g * x).sum() / z**2, right, numerical)


@erratum("kernel-size")
def kernel_size(rng):
    kernels = [layer.weight.shape for layer in StudyNet(3, 10, (20, 25)).features if isinstance(layer, torch.nn.Conv2d)]
    assert kernels == [(20, 3, 5, 5), (25, 20, 5, 5)]
    pooled = torch.nn.functional.max_pool2d(torch.nn.functional.conv2d(torch.zeros(1, 3, 32, 32), torch.zeros(6, 3, 20, 20)), 2)
    with pytest.raises(RuntimeError, match="Kernel size can't be greater"):
        torch.nn.functional.conv2d(pooled, torch.zeros(16, 6, 25, 25))


@erratum("hidden-layer")
def hidden_layer(rng):
    net = StudyNet(3, 10)
    widths = [layer.out_features for layer in net.classifier if isinstance(layer, torch.nn.Linear)]
    assert widths == [120, 84, 10]
    assert sum(isinstance(layer, torch.nn.Conv2d) for layer in net.features) == 2


@erratum("relu-zero")
def relu_zero(rng):
    twelve, twenty_five = lambda x: (x >= 0) * 1.0, lambda x: (x > 0) * 1.0
    x, g = rng.normal(size=(B, M)), rng.normal(size=(B, M))
    numerical = numerical_gradient(lambda v: np.maximum(0, v), x, g)
    for slope in (twelve, twenty_five):
        np.testing.assert_allclose(g * slope(x), numerical, atol=1e-7)
    assert twelve(0.0) != twenty_five(0.0)
    zero = torch.zeros(1, requires_grad=True)
    torch.relu(zero).sum().backward()
    module = ReLUModule()
    module.forward(np.zeros((1, 1)))
    assert float(zero.grad) == float(module.backward(np.ones((1, 1)))[0, 0]) == twenty_five(0.0)


@erratum("row-vector")
def row_vector(rng):
    x, g = rng.normal(size=(1, M)), rng.normal(size=(1, M))
    product = g @ np.diag((x[0] > 0) * 1.0)
    compare(np.zeros((M, M)), product, numerical_gradient(lambda v: np.maximum(0, v), x, g))


@erratum("bias-batch")
def bias_batch(rng):
    x, w, b, g = rng.normal(size=(B, M)), rng.normal(size=(N, M)), rng.normal(size=(1, N)), rng.normal(size=(B, N))
    numerical = numerical_gradient(lambda v: x @ w.T + v, b, g)
    compare(g.T[None], g.sum(0, keepdims=True), numerical)  # of shape (1, N, B)
    for s in range(B):
        compare(g[s:s + 1], g.sum(0, keepdims=True), numerical)


@erratum("factor-pulled-out")
def factor_pulled_out(rng):
    x, gamma, g, mu, var, _, numerical = batchnorm(rng)
    same, dev_s, dev_r, root = pieces(x, mu, var)
    published = (B - 1) / B * (same / root - dev_s * dev_r / (B * root**3))
    right = (same - 1 / B) / root - dev_s * dev_r / (B * root**3)
    compare(through(published, gamma, g), through(right, gamma, g), numerical)


@erratum("factor-dropped")
def factor_dropped(rng):
    x, gamma, g, mu, var, xhat, numerical = batchnorm(rng)
    same, dev_s, _, root = pieces(x, mu, var)
    published = (B - 1) / B * (same / root - dev_s / (B * root**3))
    right = (same - 1 / B - xhat[:, None] * xhat[None] / B) / root
    compare(through(published, gamma, g), through(right, gamma, g), numerical)


@erratum("variance-for-deviation")
def variance_for_deviation(rng):
    x, gamma, g, mu, var, xhat, numerical = batchnorm(rng)
    same, dev_s, _, root = pieces(x, mu, var)
    right = gamma / (B * root) * (B * g - g.sum(0) - xhat * (g * xhat).sum(0))
    compare(through((B * same - 1 - dev_s / root**2) / (B * root), gamma, g), right, numerical)
    compare(gamma / (B * root) * (B * g - g.sum(0) - (x - mu) / root**2 * (g * xhat).sum(0)), right, numerical)


@erratum("chosen-on-test")
def chosen_on_test(rng):
    """Thirty candidates that are equally good: what the chosen one scores on the split that chose it, and on another."""
    truth, images, searches = 0.5, 10_000, 300
    test, validation = rng.binomial(images, truth, size=(2, searches, 30)) / images
    assert test.max(1).mean() > truth + 0.005
    chosen = validation.argmax(1)
    assert abs(test[np.arange(searches), chosen].mean() - truth) < 0.001


@erratum("untied-bias")
def untied_bias(rng):
    x, untied, g = rng.normal(size=(B, 7)), rng.normal(size=7), rng.normal(size=(B, 7))  # one channel at 7 positions
    norm = lambda b: ((v := x + b) - v.mean()) / np.sqrt(v.var() + EPS)  # noqa: E731
    gradient = numerical_gradient(norm, untied, g)
    assert np.abs(gradient).max() > 1e-2 and abs(gradient.sum()) < 1e-7
    np.testing.assert_allclose(norm(untied - untied.mean()), norm(untied))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", sorted(CHECKS))
def test_erratum(name, seed):
    CHECKS[name](np.random.default_rng(seed))


def test_every_erratum_is_checked():
    names = re.findall(r'\.\.erratum\("([\w-]+)"', DOCUMENT.read_text())
    assert len(names) == len(set(names)) > 10
    assert set(names) == set(CHECKS)
