"""Muon: what it makes orthogonal, what it leaves alone, and that it learns and resumes."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from training import muon
from training.muon import Muon, orthogonal, orthogonal_together


@pytest.mark.parametrize("shape", [(32, 32), (32, 200), (200, 32)])
def test_singular_values_become_about_one_and_the_directions_stay(shape):
    torch.manual_seed(0)
    matrix = torch.randn(shape, dtype=torch.float64) * 37
    u, s, vt = torch.linalg.svd(matrix, full_matrices=False)
    values = u.T @ orthogonal(matrix) @ vt.T
    assert not (values - values.diag().diag()).abs().max() > 1e-9       # the same singular vectors
    well = values.diag()[s > 0.02 * s.max()]
    assert well.min() > 0.5 and well.max() < 1.3


def one_step(p, grad, **settings):
    p = nn.Parameter(p.clone())
    p.grad = grad.clone()
    optimizer = Muon([p], **settings)
    optimizer.step()
    return p.detach(), optimizer


@pytest.mark.parametrize("shape", [(64,), (10, 512), (15, 3, 3, 3)])
def test_what_is_not_a_matrix_takes_the_steps_of_nesterov(shape):
    torch.manual_seed(0)
    start, grads = torch.randn(shape), [torch.randn(shape) for _ in range(3)]
    moved = {}
    for make in (lambda p: Muon([p], 0.1, 0.8, 0.01),
                 lambda p: torch.optim.SGD([p], 0.1, 0.8, weight_decay=0.01, nesterov=True)):
        p = nn.Parameter(start.clone())
        optimizer = make(p)
        for grad in grads:
            p.grad = grad.clone()
            optimizer.step()
        moved[type(optimizer).__name__] = p.detach()
    torch.testing.assert_close(moved["Muon"], moved["SGD"])


def test_a_step_of_a_filter_has_the_relative_size_lr_whatever_the_gradient():
    torch.manual_seed(0)
    p = torch.randn(32, 16, 3, 3).to(memory_format=torch.channels_last)  # larger than the norm it is scaled to
    normed = p * (32 ** 0.5 / p.norm())
    grad = torch.randn(p.shape)
    moved, _ = one_step(p, grad, lr=0.1)
    assert float((moved - normed).norm() / normed.norm()) == pytest.approx(0.1, rel=0.2)
    torch.testing.assert_close(one_step(p, 1000 * grad, lr=0.1)[0], moved, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(one_step(10 * p, grad, lr=0.1)[0], moved, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("share", [0, 1e-3, 0.5])
def test_a_matrix_that_starts_small_grows_by_its_steps_alone_and_no_further_than_its_full_norm(share):
    torch.manual_seed(0)
    full = 32**0.5
    start = torch.randn(32, 64)
    p = nn.Parameter(start * (share * full / start.norm()))
    optimizer = Muon([p], lr=0.01)
    norms, p.grad = [], torch.randn(p.shape)
    for _ in range(300):
        before = p.detach().clone()
        optimizer.step()
        norms.append(float(p.detach().norm()))
        if norms[-1] < full:
            assert float((p.detach() - before).norm()) < 0.012 * full
    assert norms[0] < share * full + 0.012 * full
    assert full * 0.9 < max(norms) < full * 1.02  # it gets there, and each step starts from no more


def test_parameters_without_a_gradient_stay_and_the_state_is_saved():
    still = nn.Parameter(torch.ones(20, 20))
    optimizer = Muon([still], lr=0.1)
    optimizer.step()
    assert bool((still == 1).all())
    torch.manual_seed(0)
    nets = [nn.Sequential(nn.Linear(20, 32), nn.ReLU(), nn.Linear(32, 4)) for _ in range(2)]
    x, y = torch.randn(64, 20), torch.arange(64) % 4

    def train(net, optimizer, steps):
        for _ in range(steps):
            optimizer.zero_grad()
            loss = F.cross_entropy(net(x), y)
            loss.backward()
            optimizer.step()
        return loss.item()

    whole = Muon(nets[0].parameters(), lr=0.05)
    first = train(nets[0], whole, 5)
    nets[1].load_state_dict(nets[0].state_dict())
    resumed = Muon(nets[1].parameters(), lr=0.05)
    resumed.load_state_dict(copy.deepcopy(whole.state_dict()))
    last = train(nets[0], whole, 40)
    assert last < 0.5 * first
    assert train(nets[1], resumed, 40) == last


def test_a_closure_computes_gradients():
    weight = nn.Parameter(torch.ones(3))

    def closure():
        loss = (weight**2).sum()
        loss.backward()
        return loss

    assert Muon([weight], lr=0.1).step(closure) == 3
    assert (weight < 1).all()


@pytest.mark.parametrize(("dtype", "most"), [(torch.float64, 1e-9), (torch.bfloat16, 0.25)])
@pytest.mark.parametrize("shape", [(32, 200), (200, 32)])
def test_matrices_of_one_shape_are_made_orthogonal_at_once(shape, dtype, most):
    """Also in bfloat16, and with singular values that differ a thousandfold."""
    torch.manual_seed(0)
    wide = [torch.linalg.qr(torch.randn(200, 32, dtype=torch.float64))[0].T for _ in range(3)]
    small = torch.logspace(0, -3, 32, dtype=torch.float64)
    matrices = [torch.linalg.qr(torch.randn(32, 32, dtype=torch.float64))[0] @ (small[:, None] * q) for q in wide]
    matrices = [m if shape == (32, 200) else m.T for m in matrices]
    for together, matrix in zip(orthogonal_together(matrices, dtype), matrices, strict=True):
        alone = orthogonal(matrix)
        assert together.dtype == matrix.dtype and float((together - alone).norm() / alone.norm()) < most


def test_on_a_gpu_the_matrices_of_one_shape_are_taken_together(monkeypatch):
    """As it is on a GPU, but for the precision."""
    torch.manual_seed(0)
    start = [torch.randn(32, 16, 3, 3), torch.randn(40, 32), torch.randn(32, 144), torch.randn(40)]
    grads, moved, taken = [torch.randn_like(p) for p in start], [], []
    monkeypatch.setattr(muon, "orthogonal", lambda matrix: taken.append(tuple(matrix.shape)) or orthogonal(matrix))
    monkeypatch.setattr(muon, "orthogonal_together", lambda matrices: orthogonal_together(matrices, torch.float32))
    for class_ in (nn.Parameter, type("OnGPU", (nn.Parameter,), {"is_cuda": True})):
        parameters = [class_(p.clone()) for p in start]
        optimizer = Muon(parameters, lr=0.1, weight_decay=0.1)
        for _ in range(2):
            for p, grad in zip(parameters, grads, strict=True):
                p.grad = grad.clone()
            optimizer.step()
        moved.append([p.detach().clone() for p in parameters])
    assert taken == [(32, 144), (40, 32), (32, 144)] * 2 + [(2, 32, 144), (1, 40, 32)] * 2
    for one, other in zip(*moved, strict=True):
        torch.testing.assert_close(torch.as_tensor(other), one)
