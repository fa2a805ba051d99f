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


def orthogonal(matrix: Tensor, steps: int = 5) -> Tensor:
    """Roughly U V^T for `matrix` (N, M) = U S V^T: singular values become ones between about 0.7 and 1.2, but for those
    below about a thousandth of the norm, which stay smaller.

    A quintic Newton-Schulz iteration with the coefficients of https://kellerjordan.github.io/posts/muon:
    X <- (a + b X X^T + c (X X^T)^2) X. Each step multiplies X from the left by a polynomial of X X^T, so that these
    small square matrices are iterated alone, and X is multiplied once. In bfloat16 that would lose the directions of
    small singular values: there each step multiplies X.
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    x = matrix.T if len(matrix) > matrix.shape[1] else matrix
    x = x / (x.norm() + 1e-7)
    if x.dtype == torch.bfloat16:
        for _ in range(steps):
            gram = x @ x.T
            x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    else:
        identity = torch.eye(len(x), dtype=x.dtype, device=x.device)
        gram, product = x @ x.T, identity
        for _ in range(steps):
            factor = torch.addmm(gram, gram, gram, beta=b, alpha=c).add_(identity, alpha=a)
            product = factor @ product
            gram = factor @ gram @ factor
        x = product @ x
    return x.T if len(matrix) > matrix.shape[1] else x


def orthogonal_together(matrices: list[Tensor], dtype: torch.dtype = torch.bfloat16) -> list[Tensor]:
    """`orthogonal` of each of these matrices of one shape, computed at once and in `dtype`."""
    found = torch.vmap(orthogonal)(torch.stack(matrices).to(dtype))
    return list(found.to(matrices[0].dtype))


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
        stacks: dict[torch.Size, list[tuple[Tensor, Tensor, float]]] = {}  # on a GPU: matrices of one shape
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                update, is_matrix = self._update(p, p.grad, group["momentum"], group["weight_decay"])
                if is_matrix and p.is_cuda:
                    stacks.setdefault(update.shape, []).append((p, update, group["lr"]))
                else:
                    p.sub_((orthogonal(update) if is_matrix else update).reshape(p.shape), alpha=group["lr"])
        for stack in stacks.values():
            for (p, _, lr), update in zip(stack, orthogonal_together([update for _, update, _ in stack]), strict=True):
                p.sub_(update.reshape(p.shape), alpha=lr)
        return loss

    def _update(self, p: Tensor, grad: Tensor, momentum: float, weight_decay: float) -> tuple[Tensor, bool]:
        """The update of `p` before it is made orthogonal, as a matrix, and whether it has to be."""
        is_matrix = p.ndim > 1 and min(len(p), p[0].numel()) >= FEWEST_ROWS
        if weight_decay and not is_matrix:
            grad = grad.add(p, alpha=weight_decay)
        state = self.state[p]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(p)
        update = grad.add(state["momentum_buffer"].mul_(momentum).add_(grad), alpha=momentum)
        if is_matrix:
            p.mul_((len(p) ** 0.5 / p.norm()).clamp(max=1))
            update = update.flatten(1)
        return update, is_matrix
