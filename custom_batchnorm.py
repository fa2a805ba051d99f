"""Batch normalization three ways: by autograd, as an autograd Function, as a module on that Function.

    from custom_batchnorm import CustomBatchNormManualModule
    norm = CustomBatchNormManualModule(100)
    y = norm(torch.randn(200, 100))  # (200, 100)

Each neuron is normalized over the batch (Ioffe & Szegedy 2015). With B samples (rows s) of M neurons (columns i):

    μ_i = 1/B Σ_s X_si        σ²_i = 1/B Σ_s (X_si - μ_i)²        X̂_si = (X_si - μ_i) / sqrt(σ²_i + ε)
    Y_si = γ_i X̂_si + β_i

The statistics are always those of the batch at hand: there are no running averages, and training and evaluation do
the same. `F.batch_norm(x, None, None, gamma, beta, training=True)` computes the same function.

Half-precision input (bfloat16, float16) is normalized in float32 and returned in its own dtype; γ and β may then be
float32, as they are under autocast.
"""

from typing import Any

import torch
from torch import Tensor, nn


def _check_input(x: Tensor, n_neurons: int) -> None:
    if not isinstance(x, Tensor):
        raise TypeError(f"batch norm expects a tensor, got {type(x).__name__}: torch.as_tensor makes one")
    if x.dtype not in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
        raise TypeError(f"batch norm expects an input of float16, bfloat16, float32 or float64, got {x.dtype}: "
                        "cast it first, as in input.float()")
    if x.ndim != 2 or x.shape[1] != n_neurons:
        raise ValueError(f"batch norm expects an input of shape (batch, {n_neurons}), got {tuple(x.shape)}")
    if len(x) < 2:
        raise ValueError(f"batch norm expects an input of shape (batch > 1, {n_neurons}), got {tuple(x.shape)}: "
                         f"{len(x)} samples have no variance")


class CustomBatchNormAutograd(nn.Module):
    """Batch normalization whose gradients are left to autograd.

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
        """Y of shape (B, M) and of the input's dtype, from an input of shape (B > 1, M).

        Raises:
            ValueError: another shape of the input.
            TypeError: an input that is not floating-point.
        """
        _check_input(input, self.n_neurons)
        x = input.to(torch.promote_types(input.dtype, torch.float32))
        centered = x - x.mean(dim=0)                                          # (B, M)
        variance = centered.square().mean(dim=0)                              # (M,)
        normalized = centered * torch.rsqrt(variance + self.eps)              # (B, M)
        return (self.gamma * normalized + self.beta).to(input.dtype)

    def extra_repr(self) -> str:
        return f"{self.n_neurons}, eps={self.eps}"


class CustomBatchNormManualFunction(torch.autograd.Function):
    """Batch normalization with its backward pass by hand.

        dL/dβ_i = Σ_s dL/dY_si        dL/dγ_i = Σ_s dL/dY_si X̂_si
        dL/dX_si = γ_i / (B sqrt(σ²_i + ε)) (B dL/dY_si - dL/dβ_i - X̂_si dL/dγ_i)

    Limits, each refused with an error; CustomBatchNormAutograd has none of them:
    - It is differentiable once, and backward only: no double backward, no forward-mode derivative.
    - No vmap: neither torch.func (grad, vmap, jacrev, per-sample gradients) nor is_grads_batched nor
      jacobian(vectorize=True).
    - What torch.export makes of it runs forward only, under torch.no_grad().
    """

    @staticmethod
    def forward(ctx: Any, input: Tensor, gamma: Tensor, beta: Tensor, eps: float = 1e-5) -> Tensor:
        """Y of shape (B, M) and of the input's dtype.

        Kept for backward: the input, the mean and the reciprocal standard deviation, from which X̂ follows, and none
        of them where no gradient needs them.

        Args:
            input: X of shape (B, M), B > 1.
            gamma, beta: of shape (M,).
            eps: ε, added to the variance.

        Raises:
            ValueError: another shape of the input.
            TypeError: an input that is not floating-point.
        """
        _check_input(input, len(gamma))
        statistics_dtype = torch.promote_types(input.dtype, torch.float32)
        mean = input.mean(dim=0, dtype=statistics_dtype)                      # (M,)
        y = input - mean                                                      # (B, M), in place from here on
        rstd = y.square().sum(dim=0).div_(len(input)).add_(eps).rsqrt_()      # (M,)
        torch.addcmul(beta, y, gamma * rstd, out=y)

        need_x, need_gamma = ctx.needs_input_grad[:2]
        if need_x or need_gamma:
            ctx.save_for_backward(input, mean, rstd, gamma if need_x else None)
        y = y.to(input.dtype)
        # Compiled by PyTorch 2.11, an output that was changed in place, or cast to its own dtype, gets no gradient.
        return y.clone() if torch.compiler.is_compiling() else y

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None, None]:
        """dL/dX, dL/dγ, dL/dβ, each None where ctx.needs_input_grad asks for none, and None for ε.

        dy is dL/dY of shape (B, M); autograd casts what is returned to the dtype of the input it belongs to.

        Raises:
            RuntimeError: what is returned would have to be differentiable, too.
        """
        if torch.is_grad_enabled() and not torch.compiler.is_compiling():  # as it is under create_graph=True
            raise RuntimeError("batch norm by hand cannot be differentiated again, as by create_graph=True: "
                               "use CustomBatchNormAutograd")
        need_x, need_gamma, need_beta = ctx.needs_input_grad[:3]
        dx: Any = None
        dgamma: Any = None
        dbeta: Any = None
        if need_x or need_beta:
            dbeta = dy.sum(dim=0, dtype=torch.promote_types(dy.dtype, torch.float32))  # (M,)
        if need_x or need_gamma:
            x, mean, rstd, gamma = ctx.saved_tensors  # unpacked once, as non-reentrant checkpointing requires
            product = (x - mean).mul_(dy)                                     # (B, M)
            dgamma = product.sum(dim=0).mul_(rstd)                            # (M,)
        if need_x:
            centered = torch.sub(x, mean, out=product)                        # (B, M), from here on to dL/dX
            # The bracket over B: dL/dY - X̂ dL/dγ / B - dL/dβ / B.
            dx = torch.addcmul(dy, centered, rstd * dgamma, value=-1 / len(x), out=centered)
            dx.sub_(dbeta, alpha=1 / len(x)).mul_(gamma * rstd)
        return dx, dgamma if need_gamma else None, dbeta if need_beta else None, None


class CustomBatchNormManualModule(nn.Module):
    """Batch normalization as a module on CustomBatchNormManualFunction.

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
        """Y of shape (B, M) and of the input's dtype, from an input of shape (B > 1, M).

        Raises:
            ValueError: another shape of the input.
            TypeError: an input that is not floating-point.
        """
        _check_input(input, self.n_neurons)
        return CustomBatchNormManualFunction.apply(input, self.gamma, self.beta, self.eps)

    def extra_repr(self) -> str:
        return f"{self.n_neurons}, eps={self.eps}"
