"""Muon (Jordan et al. 2024): momentum whose update of a matrix is made orthogonal, so that no direction is left behind.

    optimizer = Muon(net.parameters(), lr=0.05, momentum=0.9)

Filters of shape (out, in, k, k) count as matrices of shape (out, in k k). PyTorch has Muon for matrices alone, computed
in bfloat16, which many processors only emulate; here it is for whole networks and in the weights' own precision. On a
GPU it is in bfloat16, and matrices of one shape are taken together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

FEWEST_ROWS = 16  # smaller matrices, such as a classifier of ten classes, take plain steps


def is_matrix(p: Tensor) -> bool:
    """Whether `p` moves along `orthogonal` of its momentum."""
    return p.ndim > 1 and min(len(p), p.numel() // len(p)) >= FEWEST_ROWS


def orthogonal(matrix: Tensor, steps: int = 5) -> Tensor:
    """Roughly U V^T for `matrix` (N, M) = U S V^T: singular values become ones between about 0.7 and 1.2, but for those
    below about a thousandth of the norm, which stay smaller. Of a stack (B, N, M), that of each matrix.

    A quintic Newton-Schulz iteration with the coefficients of https://kellerjordan.github.io/posts/muon:
    X <- (a + b X X^T + c (X X^T)^2) X. Each step multiplies X from the left by a polynomial of X X^T, so that these
    small square matrices are iterated alone, and X is multiplied once. In bfloat16 that would lose the directions of
    small singular values: there each step multiplies X.
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    mm, addmm = (torch.mm, torch.addmm) if matrix.ndim == 2 else (torch.bmm, torch.baddbmm)
    rows, columns = matrix.shape[-2:]
    x = matrix.mT if rows > columns else matrix
    x = x / (torch.linalg.vector_norm(x, dim=(-2, -1), keepdim=True) + 1e-7)
    if x.dtype == torch.bfloat16:
        for _ in range(steps):
            gram = mm(x, x.mT)
            x = addmm(x, addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    else:
        identity = torch.eye(min(rows, columns), dtype=x.dtype, device=x.device).expand(*matrix.shape[:-2], -1, -1)
        gram, product = mm(x, x.mT), identity
        for _ in range(steps):
            factor = addmm(gram, gram, gram, beta=b, alpha=c).add_(identity, alpha=a)
            product = mm(factor, product)
            gram = mm(mm(factor, gram), factor)
        x = mm(product, x)
    return x.mT if rows > columns else x


def orthogonal_together(matrices: list[Tensor], dtype: torch.dtype = torch.bfloat16) -> list[Tensor]:
    """`orthogonal` of each of these matrices, in their order; those of one shape are computed at once, in `dtype`."""
    found: dict[int, Tensor] = {}
    for shape in {matrix.shape: None for matrix in matrices}:
        places = [place for place, matrix in enumerate(matrices) if matrix.shape == shape]
        stack = orthogonal(torch.stack([matrices[place] for place in places]).to(dtype)).to(matrices[places[0]].dtype)
        found.update(zip(places, stack, strict=True))
    return [found[place] for place in range(len(matrices))]


class Muon(torch.optim.Optimizer):
    """Nesterov momentum; matrices of 16 rows and columns or more move along `orthogonal` of it, all else along itself.

    Before each of its steps, such a matrix is scaled down to the norm sqrt(rows) where its norm is larger. `lr` is thus
    the relative size of a step once the matrix has grown to that (`lr` sqrt(columns / rows) where it has more rows than
    columns). This takes the place of weight decay. It suits a network whose normalization makes the scale of its
    weights not matter.

    A smaller matrix is never scaled up, so that an initialisation keeps its sense: a residual branch whose last matrix
    starts at zero, such as that of `ResidualMLP`, opens by steps of size `lr`.

    params: parameters, or groups with an "lr" of their own. lr: step size. momentum: share that is kept each step.
    weight_decay: L2 penalty on everything else.
    """

    def __init__(self, params: Iterable[Any], lr: float, momentum: float = 0.9, weight_decay: float = 0.0):
        super().__init__(params, dict(lr=lr, momentum=momentum, weight_decay=weight_decay))

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        with torch.enable_grad():
            loss = closure() if closure else None
        for group in self.param_groups:
            if params := [p for p in group["params"] if p.grad is not None]:
                self._move(params, group["lr"], group["momentum"], group["weight_decay"])
        return loss

    def _move(self, params: list[Tensor], lr: float, momentum: float, weight_decay: float) -> None:
        """One step of these parameters. What is done to each of them alike is one call, which a GPU waits less for."""
        grads: list[Any] = [p.grad for p in params]
        if weight_decay:
            grads = [grad if is_matrix(p) else grad.add(p, alpha=weight_decay)
                     for p, grad in zip(params, grads, strict=True)]
        for p in params:
            if "momentum_buffer" not in self.state[p]:
                self.state[p]["momentum_buffer"] = torch.zeros_like(p)
        buffers = [self.state[p]["momentum_buffer"] for p in params]
        torch._foreach_mul_(buffers, momentum)
        torch._foreach_add_(buffers, grads)
        updates = list(torch._foreach_add(grads, buffers, alpha=momentum))

        places = [place for place, p in enumerate(params) if is_matrix(p)]
        if matrices := [params[place] for place in places]:
            scales = torch._foreach_reciprocal(torch._foreach_norm(matrices))
            torch._foreach_mul_(scales, [len(p) ** 0.5 for p in matrices])
            torch._foreach_clamp_max_(scales, 1)
            torch._foreach_mul_(matrices, scales)
            flat = [updates[place].flatten(1) for place in places]
            found = orthogonal_together(flat) if params[0].is_cuda else map(orthogonal, flat)
            for place, update in zip(places, found, strict=True):
                updates[place] = update.reshape(params[place].shape)
        torch._foreach_sub_(params, updates, alpha=lr)
