"""Batch normalization by hand: every check of norm_checks.py, and what is batch norm's alone."""

import pytest
import torch
import torch.nn.functional as F

from custom_batchnorm import (
    CustomBatchNormAutograd,
    CustomBatchNormManualFunction,
    CustomBatchNormManualModule,
)
from tests.norm_checks import AutogradModuleChecks, FunctionChecks, ManualModuleChecks, draw

pytestmark = pytest.mark.systems


class BatchNorm:
    function = CustomBatchNormManualFunction
    reference = staticmethod(lambda x, gamma, beta: F.batch_norm(x, None, None, gamma, beta, training=True, eps=1e-5))
    axis = 0

    def test_a_batch_of_one_is_refused(self):
        for n in (0, 1):
            with pytest.raises(ValueError, match=rf"\(batch > 1, 7\), got \({n}, 7\)"):
                self.compute([torch.ones(n, 7), torch.ones(7), torch.zeros(7)])

    def test_neurons_are_independent(self):
        """A neuron's output and gradient do not depend on the others."""
        inputs, dy = draw((7, 4))
        y = self.compute(inputs)
        (dx,) = torch.autograd.grad(y, inputs[0], dy)
        for i in range(4):
            column, gamma, beta = (t[..., i:i + 1].detach().requires_grad_() for t in inputs)
            y_one = self.compute([column, gamma, beta])
            torch.testing.assert_close(y_one, y[:, i:i + 1])
            torch.testing.assert_close(torch.autograd.grad(y_one, column, dy[:, i:i + 1])[0], dx[:, i:i + 1])


class TestBatchNormAutograd(BatchNorm, AutogradModuleChecks):
    module = CustomBatchNormAutograd


class TestBatchNormManualFunction(BatchNorm, FunctionChecks):
    pass


class TestBatchNormManualModule(BatchNorm, ManualModuleChecks):
    module = CustomBatchNormManualModule


def test_the_closed_form():
    """dX = gamma / (B sqrt(var + eps)) (B dY - dbeta - xhat dgamma), as the papers' readers write it."""
    (x, gamma, beta), dy = draw((6, 5), seed=3)
    with torch.no_grad():
        variance = x.var(0, correction=0)
        x_hat = (x - x.mean(0)) / torch.sqrt(variance + 1e-5)
        dbeta, dgamma = dy.sum(0), (dy * x_hat).sum(0)
        dx = gamma / (6 * torch.sqrt(variance + 1e-5)) * (6 * dy - dbeta - x_hat * dgamma)
    y = CustomBatchNormManualFunction.apply(x, gamma, beta, 1e-5)
    for expected, received in zip((dx, dgamma, dbeta), torch.autograd.grad(y, (x, gamma, beta), dy), strict=True):
        torch.testing.assert_close(received, expected)
