"""Every equation of report/derivations*.typ, evaluated as written, against automatic differentiation.

A test is registered under the equation's label; the labels of the documents and those tested must be the same.
"""

import re
from pathlib import Path

import pytest
import torch

pytestmark = pytest.mark.derivations
DOCUMENTS = sorted((Path(__file__).parent.parent / "report").glob("derivations*.typ"))
S, M, N, C, EPS = 5, 4, 3, 6, 1e-5
CHECKS = {}


def equation(*labels):
    def register(function):
        for label in labels:
            CHECKS[label] = function
        return function
    return register


def rand(*shape):
    return torch.randn(shape, dtype=torch.float64, requires_grad=True)


def autograd(y, g, *inputs):
    """dL/d(input) for L = sum(y * g), each."""
    return torch.autograd.grad(y, inputs, g)


def same(formula, expected):
    torch.testing.assert_close(formula.detach() if formula.requires_grad else formula, expected, rtol=1e-9, atol=1e-11)


@equation("linear-weight", "linear-bias", "linear-input")
def linear():
    x, w, b, g = rand(S, M), rand(N, M), rand(1, N), torch.randn(S, N, dtype=torch.float64)
    dw, db, dx = autograd(x @ w.T + b, g, w, b, x)
    same(torch.einsum("si,sj->ij", g, x), dw)
    same(g.T @ x, dw)
    same(g.sum(0, keepdim=True), db)
    same(torch.ones(1, S, dtype=torch.float64) @ g, db)
    same(torch.einsum("in,nj->ij", g, w), dx)
    same(g @ w, dx)


ACTIVATIONS = {
    "elu": (lambda x: torch.where(x >= 0, x, x.exp() - 1), lambda x: torch.where(x >= 0, torch.ones_like(x), x.exp())),
    "relu": (lambda x: x.clamp(min=0), lambda x: (x > 0).double()),
    "tanh": (torch.tanh, lambda x: 1 - torch.tanh(x) ** 2),
    "sigmoid": (lambda x: 1 / (1 + (-x).exp()), lambda x: torch.sigmoid(x) * (1 - torch.sigmoid(x))),
}


@equation("activation", *ACTIVATIONS)
def activation():
    for h, slope in ACTIVATIONS.values():
        x, g = rand(S, M), torch.randn(S, M, dtype=torch.float64)
        same(g * slope(x), autograd(h(x), g, x)[0])


@equation("softmax-jacobian", "softmax-index", "softmax")
def softmax():
    x, g = rand(S, C), torch.randn(S, C, dtype=torch.float64)
    y = torch.softmax(x, 1)
    jacobian = torch.autograd.functional.jacobian(lambda row: torch.softmax(row, 0), x[0])
    same(y[0][:, None] * (torch.eye(C, dtype=torch.float64) - y[0][None, :]), jacobian)
    dx, = autograd(y, g, x)
    same(y * (g - (g * y).sum(1, keepdim=True)), dx)
    ones = torch.ones(C, 1, dtype=torch.float64)
    same(y * (g - (g * y) @ ones @ ones.T), dx)


@equation("cross-entropy", "softmax-cross-entropy")
def cross_entropy():
    z = rand(S, C)
    t = torch.eye(C, dtype=torch.float64)[torch.randint(0, C, (S,))]
    p = torch.softmax(z, 1).detach().requires_grad_()
    loss = lambda p: -(t * p.log()).sum() / S  # noqa: E731
    same(-t / p / S, torch.autograd.grad(loss(p), p)[0])
    same((torch.softmax(z, 1) - t) / S, torch.autograd.grad(loss(torch.softmax(z, 1)), z)[0])


def correlate(x, k):
    """Y_ij = sum_ab K_ab X_(i+a-1, j+b-1), as written."""
    rows, columns = x.shape[0] - k.shape[0] + 1, x.shape[1] - k.shape[1] + 1
    return torch.stack([torch.stack([(k * x[i:i + k.shape[0], j:j + k.shape[1]]).sum() for j in range(columns)])
                        for i in range(rows)])


def at(g, i, j):
    """G_ij, indices from 1, zero outside."""
    return g[i - 1, j - 1] if 1 <= i <= g.shape[0] and 1 <= j <= g.shape[1] else torch.zeros((), dtype=g.dtype)


@equation("conv-y21", "conv-kernel", "conv-input", "conv-x12")
def convolution():
    x, k, g = rand(4, 4), rand(2, 2), torch.randn(3, 3, dtype=torch.float64)
    y = correlate(x, k)
    same(y, torch.nn.functional.conv2d(x[None, None], k[None, None])[0, 0].detach())
    same(k[0, 0] * x[1, 0] + k[0, 1] * x[1, 1] + k[1, 0] * x[2, 0] + k[1, 1] * x[2, 1], y[1, 0].detach())
    dk, dx = autograd(y, g, k, x)
    same(correlate(x, g), dk)
    same((g * x[:3, :3]).sum(), dk[0, 0])
    same(k[0, 1] * g[0, 0] + k[0, 0] * g[0, 1], dx[0, 1])
    for p in range(1, 5):
        for q in range(1, 5):
            same(sum(k[a - 1, b - 1] * at(g, p - a + 1, q - b + 1) for a in (1, 2) for b in (1, 2)), dx[p - 1, q - 1])


@equation("conv-batch-kernel", "conv-batch-input")
def batched_convolution():
    x, k, b, g = rand(2, 3, 5, 4), rand(4, 3, 2, 2), rand(4), torch.randn(2, 4, 4, 3, dtype=torch.float64)
    y = sum(torch.einsum("oc,scij->soij", k[:, :, a, e], x[:, :, a:a + 4, e:e + 3]) for a in range(2) for e in range(2))
    y = y + b[None, :, None, None]
    same(y, torch.nn.functional.conv2d(x, k, b).detach())
    dk, db, dx = autograd(y, g, k, b, x)
    for a in range(2):
        for e in range(2):
            same(torch.einsum("soij,scij->oc", g, x[:, :, a:a + 4, e:e + 3]), dk[:, :, a, e])
    same(g.sum((0, 2, 3)), db)
    padded = torch.nn.functional.pad(g, (1, 1, 1, 1))  # G_(p-a+1, q-b+1), zero outside
    same(sum(torch.einsum("oc,sopq->scpq", k[:, :, a, e], padded[:, :, 1 - a:6 - a, 1 - e:5 - e])
             for a in range(2) for e in range(2)), dx)


@equation("conv-matrix")
def convolution_as_a_product():
    x, k, b, g = rand(2, 3, 5, 4), rand(4, 3, 2, 2), rand(4), torch.randn(2, 4, 4, 3, dtype=torch.float64)
    windows = lambda v: torch.nn.functional.unfold(v, 2).transpose(1, 2).reshape(-1, 12)  # noqa: E731  (SP, C_in k^2)
    rows = lambda v: v.permute(0, 2, 3, 1).reshape(-1, 4)  # noqa: E731  (S, C_out, H, W) -> (SP, C_out)
    u, kernels, ones = windows(x), k.reshape(4, 12), torch.ones(24, 1, dtype=torch.float64)
    y = torch.nn.functional.conv2d(x, k, b)
    same(u @ kernels.T + ones @ b[None], rows(y).detach())
    dx, dk, db = autograd(y, g, x, k, b)
    same(rows(g).T @ u, dk.reshape(4, 12))
    same((ones.T @ rows(g))[0], db)
    du = rows(g) @ kernels
    same(torch.nn.functional.fold(du.reshape(2, 12, 12).transpose(1, 2), (5, 4), 2), dx)  # sums over the copies


@equation("layernorm-forward", "layernorm-parameters", "layernorm-statistics", "layernorm-jacobian", "layernorm-index",
          "layernorm", "layernorm-graph-steps")
def layernorm():
    x, gamma, beta, g = rand(S, M), rand(M), rand(M), torch.randn(S, M, dtype=torch.float64)
    mu = x.sum(1, keepdim=True) / M
    var = ((x - mu) ** 2).sum(1, keepdim=True) / M
    r = 1 / (var + EPS).sqrt()
    xhat = (x - mu) * r
    y = gamma * xhat + beta
    same(y, torch.nn.functional.layer_norm(x, (M,), gamma, beta, EPS).detach())
    dx, dgamma, dbeta = autograd(y, g, x, gamma, beta)
    same((g * xhat).sum(0), dgamma)
    same(g.sum(0), dbeta)
    ones = torch.ones(1, S, dtype=torch.float64)
    same(ones @ (g * xhat), dgamma[None])
    same(ones @ g, dbeta[None])
    row = x[0].detach()
    statistics = torch.autograd.functional.jacobian(lambda v: ((v - v.mean()) ** 2).mean(), row)
    same(2 / M * (row - row.mean()), statistics)
    same(torch.full((M,), 1 / M, dtype=torch.float64), torch.autograd.functional.jacobian(lambda v: v.mean(), row))
    normalise = lambda v: (v - v.mean()) / (((v - v.mean()) ** 2).mean() + EPS).sqrt()  # noqa: E731
    eye = torch.eye(M, dtype=torch.float64)
    # exact up to eps: r^2 (x - mu)(x - mu) is xhat xhat, and d(r)/d(var) = -r^3 / 2 keeps eps inside r
    same(r[0] * (eye - 1 / M - xhat[0][:, None] * xhat[0][None, :] / M), torch.autograd.functional.jacobian(normalise, row))
    scaled = g * gamma
    same(r * (scaled - scaled.sum(1, keepdim=True) / M - xhat * (scaled * xhat).sum(1, keepdim=True) / M), dx)
    p = torch.ones(M, M, dtype=torch.float64) / M
    same(torch.diag(r[:, 0]) @ (scaled - scaled @ p - xhat * ((scaled * xhat) @ p)), dx)
    d = x - mu
    dvar = -r**3 / 2 * (scaled * d).sum(1, keepdim=True)
    dd = r * scaled + 2 / M * d * dvar
    same(dd - dd.sum(1, keepdim=True) / M, dx)


def batchnorm_parts():
    """x, gamma, beta, g, y by the library, mu, var, r, xhat by the formulas."""
    x, gamma, beta, g = rand(S, M), rand(M), rand(M), torch.randn(S, M, dtype=torch.float64)
    y = torch.nn.functional.batch_norm(x, None, None, gamma, beta, training=True, eps=EPS)
    mu = x.sum(0) / S
    var = ((x - mu) ** 2).sum(0) / S
    r = 1 / (var + EPS).sqrt()
    return x, gamma, beta, g, y, mu, var, r, (x - mu) * r


@equation("batchnorm-forward", "batchnorm-parameters", "batchnorm", "batchnorm-matrix")
def batchnorm():
    x, gamma, beta, g, y, _, _, r, xhat = batchnorm_parts()
    same(gamma * xhat + beta, y.detach())
    dx, dgamma, dbeta = autograd(y, g, x, gamma, beta)
    same((g * xhat).sum(0), dgamma)
    same(g.sum(0), dbeta)
    same(gamma * r / S * (S * g - dbeta - xhat * dgamma), dx)
    ones = torch.ones(S, 1, dtype=torch.float64)
    same(ones @ (gamma * r)[None] * (S * g - ones @ dbeta[None] - xhat * (ones @ dgamma[None])) / S, dx)


@equation("batchnorm-statistics", "batchnorm-jacobian")
def batchnorm_jacobian():
    x, _, _, _, _, mu, _, r, xhat = batchnorm_parts()
    jacobian = lambda f: torch.autograd.functional.jacobian(f, x[:, 0].detach())  # noqa: E731
    variance = lambda v: ((v - v.mean()) ** 2).mean()  # noqa: E731
    eye, centred = torch.eye(S, dtype=torch.float64), (x - mu)[:, 0]
    same(torch.full((S,), 1 / S, dtype=torch.float64), jacobian(torch.mean))
    same(2 / S * (centred[:, None] * (eye - 1 / S)).sum(0), jacobian(variance))
    same(2 / S * centred, jacobian(variance))
    expected = jacobian(lambda v: (v - v.mean()) / (variance(v) + EPS).sqrt())
    same(r[0] * (eye - 1 / S) - r[0] ** 3 / 2 * centred[:, None] * 2 / S * centred[None, :], expected)
    h = xhat[:, 0]
    same(r[0] * (eye - 1 / S - h[:, None] * h[None, :] / S), expected)


@equation("batchnorm-through", "batchnorm-paths")
def batchnorm_through():
    x, gamma, _, g, y, mu, _, r, _ = batchnorm_parts()
    # the statistics as inputs of their own, for the gradients of the loss by them
    m = mu.detach().requires_grad_()
    v = ((x.detach() - m) ** 2).sum(0) / S
    dv, dm = autograd((x.detach() - m) / (v + EPS).sqrt() * gamma, g, v, m)
    ghat = gamma * g
    dvar = -r**3 / 2 * (ghat * (x - mu)).sum(0)
    dmu = -r * ghat.sum(0) + dvar * (-2 / S) * (x - mu).sum(0)
    same(dvar, dv)
    same(dmu, dm)
    same(ghat * r + dmu / S + dvar * 2 / S * (x - mu), autograd(y, g, x)[0])


@equation("tied-bias", "untied-bias")
def biases():
    x, g = rand(S, 7), torch.randn(S, 7, dtype=torch.float64)  # one channel: S samples at 7 positions
    norm = lambda v: (v - v.mean()) / (v.var(unbiased=False) + EPS).sqrt()  # noqa: E731
    tied, untied, zero = rand(), rand(7), torch.zeros((), dtype=torch.float64)
    same(norm(x + tied), norm(x).detach())
    db, dx = autograd(norm(x + tied), g, tied, x)
    same(db, zero)
    same(dx.sum(), zero)
    db, dx = autograd(norm(x + untied), g, untied, x)
    same(dx.sum(0), db)
    same(db.sum(), zero)
    same(norm(x + untied - untied.mean()), norm(x + untied).detach())
    assert float(db.abs().max()) > 1e-3  # the untied bias itself does matter


@equation("division")
def division():
    x, y, g = rand(S, M), rand(S, M), torch.randn(S, M, dtype=torch.float64)
    dx, dy = autograd(x / y, g, x, y)
    same(g / y, dx)
    same(-g * x / (y * y), dy)


@equation("elementwise")
def elementwise():
    g = torch.randn(M, dtype=torch.float64)
    for f, slope in ((torch.square, lambda x: 2 * x), (torch.log, lambda x: 1 / x)):
        x = torch.rand(M, dtype=torch.float64).add(0.5).requires_grad_()
        same(g * slope(x), autograd(f(x), g, x)[0])
        same((g[:, None] * torch.eye(M, dtype=torch.float64) * slope(x)[None, :]).sum(0), autograd(f(x), g, x)[0])


@equation("matmul-index", "matmul")
def matmul():
    x, w, g = rand(S, M), rand(M, N), torch.randn(S, N, dtype=torch.float64)
    dx, dw = autograd(x @ w, g, x, w)
    same(torch.einsum("sn,mn->sm", g, w), dx)
    same(torch.einsum("sm,sn->mn", x, g), dw)
    same(g @ w.T, dx)
    same(x.T @ g, dw)


@equation("outer", "expand")
def outer():
    x, v, g = rand(S), rand(N), torch.randn(S, N, dtype=torch.float64)
    dx, dv = autograd(torch.outer(x, v), g, x, v)
    same((g * v[None, :]).sum(1), dx)
    same((g * x[:, None]).sum(0), dv)
    same(g @ v, dx)
    same(g.T @ x, dv)
    ones = torch.ones(N, dtype=torch.float64)
    dx, = autograd(torch.outer(x, ones), g, x)
    same(g.sum(1), dx)
    same(g @ ones, dx)


@equation("row-normalise", "row-normalise-matrix")
def row_normalise():
    x, g = torch.rand(S, M, dtype=torch.float64).add(0.5).requires_grad_(), torch.randn(S, M, dtype=torch.float64)
    z = x.sum(1, keepdim=True)
    dx, = autograd(x / z, g, x)
    same(g / z - (g * x / z**2).sum(1, keepdim=True), dx)
    ones = torch.ones(M, 1, dtype=torch.float64)
    same((g - (g * (x / z)) @ ones @ ones.T) / (z @ ones.T), dx)


@equation("log-softmax")
def log_softmax():
    x, g = rand(S, C), torch.randn(S, C, dtype=torch.float64)
    y = torch.log_softmax(x, 1)
    same(x - x.exp().sum(1, keepdim=True).log(), y.detach())
    dx, = autograd(y, g, x)
    same(g - y.exp() * g.sum(1, keepdim=True), dx)
    ones = torch.ones(C, 1, dtype=torch.float64)
    same(g - y.exp() * (g @ ones @ ones.T), dx)


@pytest.mark.parametrize("label", sorted(CHECKS))
def test_equation(label):
    for seed in range(3):
        torch.manual_seed(seed)
        CHECKS[label]()


def test_every_equation_is_tested():
    labels = re.findall(r"\$\s+<([\w-]+)>", "".join(path.read_text() for path in DOCUMENTS))
    assert len(labels) == len(set(labels)) > 20
    assert set(labels) == set(CHECKS)
