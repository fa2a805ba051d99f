"""Our layer norm and batch norm by hand beside torch's own: forward and backward with all three gradients.

The limit is copying: forward has to read X and write Y, backward to read X and dL/dY and write dL/dX.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.profiles import by_operator
from benchmarks.rows import Row, row
from benchmarks.timing import by_turns, torch_copy
from custom_batchnorm import CustomBatchNormManualFunction
from custom_layernorm import CustomLayerNormManualFunction

SHAPES = {(200, 100): 100, (256, 1024): 20, (2048, 1024): 3}  # calls per round
GOALS = {(200, 100): 3.0, (256, 1024): 3.0, (2048, 1024): 2.5}  # of layer norm in float32
NORMS: dict[str, tuple[Callable[..., Tensor], Callable[..., Tensor]]] = {
    "LayerNorm": (lambda x, gamma, beta: CustomLayerNormManualFunction.apply(x, gamma, beta, 1e-5),
                  lambda x, gamma, beta: F.layer_norm(x, x.shape[1:], gamma, beta)),
    "BatchNorm": (lambda x, gamma, beta: CustomBatchNormManualFunction.apply(x, gamma, beta, 1e-5),
                  lambda x, gamma, beta: F.batch_norm(x, None, None, gamma, beta, training=True)),
}


def forward_and_backward(norm: Callable[..., Tensor], shape: tuple[int, int], dtype: torch.dtype,
                         device: torch.device | None = None) -> Callable[[], None]:
    torch.manual_seed(0)
    inputs = [torch.randn(size, dtype=dtype, device=device, requires_grad=True) for size in (shape, shape[1], shape[1])]
    dy = torch.randn(shape, dtype=dtype, device=device)

    def run() -> None:
        for tensor in inputs:
            tensor.grad = None
        norm(*inputs).backward(dy)

    return run


def rows(quick: bool) -> list[Row]:
    found = []
    for name, (norm, torchs) in NORMS.items():
        for dtype in (torch.float32, torch.float64, torch.bfloat16):
            for shape, calls in SHAPES.items():
                ours = forward_and_backward(norm, shape, dtype)
                seconds = by_turns({"ours": ours, "plain PyTorch": forward_and_backward(torchs, shape, dtype),
                                    "copying": torch_copy(torch.empty(shape, dtype=dtype), arrays=5)},
                                   rounds=2 if quick else 31, calls=1 if quick else calls)
                goal = GOALS[shape] if name == "LayerNorm" and dtype == torch.float32 else None
                setting = f"{shape[0]} x {shape[1]}, {str(dtype).removeprefix('torch.')}"
                found.append(row(name, setting, seconds, "ours", "plain PyTorch", "copying", reference_goal=goal,
                                 profile=by_operator(ours, 1 if quick else 20)))
    return found
