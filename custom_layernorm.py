"""Layer normalization three ways (question 3): by autograd, as an autograd Function, as a module on that Function.

    from custom_layernorm import CustomLayerNormManualModule
    norm = CustomLayerNormManualModule(100)
    y = norm(torch.randn(200, 100))  # (200, 100)

Each sample is normalized over its own neurons (Ba et al. 2016). With S samples (rows s) of M neurons (columns i):

    μ_s = 1/M Σ_i X_si        σ²_s = 1/M Σ_i (X_si - μ_s)²        X̂_si = (X_si - μ_s) / sqrt(σ²_s + ε)
    Y_si = γ_i X̂_si + β_i

Half-precision input (bfloat16, float16) is normalized in float32 and returned in its own dtype, as `F.layer_norm`
does; γ and β may then be float32, as they are under autocast.
"""

from typing import Any

import torch
from torch import Tensor, nn


def _check_input(x: Tensor, n_neurons: int) -> None:
    if not isinstance(x, Tensor):
        raise TypeError(f"layer norm expects a tensor, got {type(x).__name__}: torch.as_tensor makes one")
    if x.dtype not in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
        raise TypeError(f"layer norm expects an input of float16, bfloat16, float32 or float64, got {x.dtype}: "
                        "cast it first, as in input.float()")
    if x.ndim != 2 or x.shape[1] != n_neurons:
        raise ValueError(f"layer norm expects an input of shape (batch, {n_neurons}), got {tuple(x.shape)}")


class CustomLayerNormAutograd(nn.Module):
    """Layer normalization whose gradients are left to autograd (question 3.1).

    Args:
        n_neurons: M, neurons of a sample.
        eps: ε, added to the variance.

    Attributes:
        gamma, beta: parameters of shape (M,), initially 1 and 0.
    """

    def __init__(self, n_neurons: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.n_neurons, self.eps = n_neurons, eps
        self.gamma = nn.Parameter(torch.ones(n_neurons))
        self.beta = nn.Parameter(torch.zeros(n_neurons))

    def forward(self, input: Tensor) -> Tensor:
        """Y of shape (S, M) and of the input's dtype, from an input of shape (S, M).

        Raises:
            ValueError: another shape of the input.
            TypeError: an input that is not floating-point.
        """
        _check_input(input, self.n_neurons)
        x = input.to(torch.promote_types(input.dtype, torch.float32))
        centered = x - x.mean(dim=1, keepdim=True)                            # (S, M)
        variance = centered.square().mean(dim=1, keepdim=True)                # (S, 1)
        normalized = centered * torch.rsqrt(variance + self.eps)              # (S, M)
        return (self.gamma * normalized + self.beta).to(input.dtype)

    def extra_repr(self) -> str:
        return f"{self.n_neurons}, eps={self.eps}"


class CustomLayerNormManualFunction(torch.autograd.Function):
    """Layer normalization with its backward pass by hand (questions 3.2a, 3.2b).

        dL/dβ_i = Σ_s dL/dY_si        dL/dγ_i = Σ_s dL/dY_si X̂_si
        dL/dX_si = 1 / sqrt(σ²_s + ε) (G_si - 1/M Σ_j G_sj - X̂_si 1/M Σ_j G_sj X̂_sj),  G_si = γ_i dL/dY_si

    Limits, each refused with an error; CustomLayerNormAutograd has none of them:
    - It is differentiable once, and backward only: no double backward, no forward-mode derivative.
    - No vmap: neither torch.func (grad, vmap, jacrev, per-sample gradients) nor is_grads_batched nor
      jacobian(vectorize=True).
    - What torch.export makes of it runs forward only, under torch.no_grad().
    """

    @staticmethod
    def forward(ctx: Any, input: Tensor, gamma: Tensor, beta: Tensor, eps: float = 1e-5) -> Tensor:
        """Y of shape (S, M) and of the input's dtype.

        Kept for backward: the input, the mean and the reciprocal standard deviation, from which X̂ follows, and none
        of them where no gradient needs them.

        Args:
            input: X of shape (S, M).
            gamma, beta: of shape (M,).
            eps: ε, added to the variance.

        Raises:
            ValueError: another shape of the input.
            TypeError: an input that is not floating-point.
        """
        _check_input(input, len(gamma))
        statistics_dtype = torch.promote_types(input.dtype, torch.float32)
        mean = input.mean(dim=1, keepdim=True, dtype=statistics_dtype)        # (S, 1)
        y = input - mean                                                      # (S, M), in place from here on
        sum_of_squares = torch.linalg.vector_norm(y, dim=1, keepdim=True).square_()
        rstd = sum_of_squares.div_(input.shape[1]).add_(eps).rsqrt_()         # (S, 1)
        torch.addcmul(beta, y.mul_(rstd), gamma, out=y)

        need_x, need_gamma = ctx.needs_input_grad[:2]
        if need_x or need_gamma:
            ctx.save_for_backward(input, mean, rstd, gamma if need_x else None)
        y = y.to(input.dtype)
        # Compiled by PyTorch 2.11, an output that was changed in place, or cast to its own dtype, gets no gradient.
        return y.clone() if torch.compiler.is_compiling() else y

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None, None]:
        """dL/dX, dL/dγ, dL/dβ, each None where ctx.needs_input_grad asks for none, and None for ε.

        dy is dL/dY of shape (S, M); autograd casts what is returned to the dtype of the input it belongs to.

        Raises:
            RuntimeError: what is returned would have to be differentiable, too.
        """
        if torch.is_grad_enabled() and not torch.compiler.is_compiling():  # as it is under create_graph=True
            raise RuntimeError("layer norm by hand cannot be differentiated again, as by create_graph=True: "
                               "use CustomLayerNormAutograd")
        need_x, need_gamma, need_beta = ctx.needs_input_grad[:3]
        dx = dgamma = dbeta = None
        if need_beta:
            dbeta = dy.sum(dim=0, dtype=torch.promote_types(dy.dtype, torch.float32))  # (M,)
        if need_x or need_gamma:
            x, mean, rstd, gamma = ctx.saved_tensors  # unpacked once, as non-reentrant checkpointing requires
            dy = dy.to(rstd.dtype)  # the products below in float32 for half-precision input
            product = (x - mean).mul_(rstd).mul_(dy)                          # (S, M), dL/dY X̂
            if need_gamma:
                dgamma = product.sum(dim=0)                                   # (M,)
            if need_x:
                # In one array of the input's size. With X̂ = (X - μ) rstd, the formula above is
                #     dX_si = rstd_s (G_si - (offset_s + X_si slope_s) / M),
                #     slope_s = rstd_s Σ_j G_sj X̂_sj,  offset_s = Σ_j G_sj - μ_s slope_s
                n_neurons = x.shape[1]
                slope = product.mul_(gamma).sum(dim=1, keepdim=True).mul_(rstd)         # (S, 1)
                dx = torch.mul(dy, gamma, out=product)                                  # (S, M), G
                offset = dx.sum(dim=1, keepdim=True).addcmul_(slope, mean, value=-1)    # (S, 1)
                dx.addcmul_(x, slope, value=-1 / n_neurons).sub_(offset, alpha=1 / n_neurons).mul_(rstd)
        return dx, dgamma, dbeta, None


class CustomLayerNormManualModule(nn.Module):
    """Layer normalization as a module on CustomLayerNormManualFunction (question 3.2c).

    Args:
        n_neurons: M, neurons of a sample.
        eps: ε, added to the variance.

    Attributes:
        gamma, beta: parameters of shape (M,), initially 1 and 0.
    """

    def __init__(self, n_neurons: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.n_neurons, self.eps = n_neurons, eps
        self.gamma = nn.Parameter(torch.ones(n_neurons))
        self.beta = nn.Parameter(torch.zeros(n_neurons))

    def forward(self, input: Tensor) -> Tensor:
        """Y of shape (S, M) and of the input's dtype, from an input of shape (S, M).

        Raises:
            ValueError: another shape of the input.
            TypeError: an input that is not floating-point.
        """
        _check_input(input, self.n_neurons)
        return CustomLayerNormManualFunction.apply(input, self.gamma, self.beta, self.eps)

    def extra_repr(self) -> str:
        return f"{self.n_neurons}, eps={self.eps}"
