"""Muon: what it makes orthogonal, what it leaves alone, and that it learns and resumes."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from training.muon import Muon, orthogonal


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
    p = torch.randn(32, 16, 3, 3).to(memory_format=torch.channels_last)
    normed = p * (32 ** 0.5 / p.norm())
    grad = torch.randn(p.shape)
    moved, _ = one_step(p, grad, lr=0.1)
    assert float((moved - normed).norm() / normed.norm()) == pytest.approx(0.1, rel=0.2)
    torch.testing.assert_close(one_step(p, 1000 * grad, lr=0.1)[0], moved, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(one_step(10 * p, grad, lr=0.1)[0], moved, atol=1e-5, rtol=1e-4)


def test_a_matrix_that_starts_at_zero_has_the_full_norm_from_its_second_step_on():
    torch.manual_seed(0)
    p = nn.Parameter(torch.zeros(32, 64))
    optimizer = Muon([p], lr=0.01)
    for full in (False, True, True):
        p.grad = torch.randn(p.shape)
        optimizer.step()
        assert (float(p.detach().norm()) == pytest.approx(32**0.5, rel=0.05)) == full


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
