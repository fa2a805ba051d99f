"""Layer normalization (question 3): every check of norm_checks.py, and what is layer norm's alone."""

import pytest
import torch
import torch.nn.functional as F

from custom_batchnorm import CustomBatchNormManualFunction
from custom_layernorm import (
    CustomLayerNormAutograd,
    CustomLayerNormManualFunction,
    CustomLayerNormManualModule,
)
from tests.norm_checks import AutogradModuleChecks, FunctionChecks, ManualModuleChecks, draw


class LayerNorm:
    function = CustomLayerNormManualFunction
    reference = staticmethod(lambda x, gamma, beta: F.layer_norm(x, x.shape[1:], gamma, beta, 1e-5))
    axis = 1

    def test_samples_are_independent(self):
        """A sample's output and gradient do not depend on the others; a batch of one works."""
        inputs, dy = draw((5, 7))
        y = self.compute(inputs)
        (dx,) = torch.autograd.grad(y, inputs[0], dy)
        for i in range(5):
            one = inputs[0][i:i + 1].detach().requires_grad_()
            y_one = self.compute([one, *inputs[1:]])
            torch.testing.assert_close(y_one, y[i:i + 1])
            torch.testing.assert_close(torch.autograd.grad(y_one, one, dy[i:i + 1])[0], dx[i:i + 1])

    def test_an_empty_batch(self):
        inputs, dy = draw((0, 7))
        y = self.compute(inputs)
        assert y.shape == (0, 7)
        assert all(not g.any() for g in torch.autograd.grad(y, inputs, dy))


@pytest.mark.q3_1
class TestLayerNormAutograd(LayerNorm, AutogradModuleChecks):
    module = CustomLayerNormAutograd


@pytest.mark.q3_2b
class TestLayerNormManualFunction(LayerNorm, FunctionChecks):
    pass


@pytest.mark.q3_2c
class TestLayerNormManualModule(LayerNorm, ManualModuleChecks):
    module = CustomLayerNormManualModule


@pytest.mark.q3_2a
def test_the_equations_of_the_question():
    """dL/dgamma, dL/dbeta and dL/dX written out index by index, sum by sum, as the question derives them."""
    (x, gamma, beta), dy = draw((4, 5), seed=3)
    S, M = x.shape
    with torch.no_grad():
        rstd = [1 / torch.sqrt(x[s].var(correction=0) + 1e-5) for s in range(S)]
        x_hat = torch.stack([(x[s] - x[s].mean()) * rstd[s] for s in range(S)])
        dgamma = torch.stack([sum(dy[s, i] * x_hat[s, i] for s in range(S)) for i in range(M)])
        dbeta = torch.stack([sum(dy[s, i] for s in range(S)) for i in range(M)])
        # dX̂_sj/dX_si = rstd_s (δ_ij - 1/M - X̂_si X̂_sj / M)
        dx = torch.stack([torch.stack([
            sum(dy[s, j] * gamma[j] * rstd[s] * ((i == j) - 1 / M - x_hat[s, i] * x_hat[s, j] / M) for j in range(M))
            for i in range(M)]) for s in range(S)])
    y = CustomLayerNormManualFunction.apply(x, gamma, beta, 1e-5)
    for expected, received in zip((dx, dgamma, dbeta), torch.autograd.grad(y, (x, gamma, beta), dy), strict=True):
        torch.testing.assert_close(received, expected)


@pytest.mark.q3_2d
def test_only_batch_norm_feels_the_rest_of_the_batch():
    """What sets the two apart: with other samples beside it, a sample is another to batch norm, the same to layer norm."""
    (x, gamma, beta), _ = draw((6, 5))
    company = torch.cat([x[:1], 3 * x[1:] + 1])
    layer, batch = ([norm.apply(batch, gamma, beta, 1e-5)[0] for batch in (x, company)]
                    for norm in (CustomLayerNormManualFunction, CustomBatchNormManualFunction))
    torch.testing.assert_close(layer[0], layer[1])
    assert not torch.isclose(batch[0], batch[1]).any()
