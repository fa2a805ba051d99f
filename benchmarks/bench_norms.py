"""Our layer norm and batch norm by hand beside torch's own: forward and backward with all three gradients.

    python -m benchmarks.bench_norms [--rounds 31] [--threads 1]

Each line ends with the ratio of the two, measured by turns in one process: its median and quartiles over the rounds.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.timing import by_turns, ratio, spread
from custom_batchnorm import CustomBatchNormManualFunction
from custom_layernorm import CustomLayerNormManualFunction

SHAPES = {(200, 100): 100, (256, 1024): 20, (2048, 1024): 3}  # calls per round
GOALS = {(200, 100): 3.0, (256, 1024): 3.0, (2048, 1024): 2.5}  # of layer norm in float32
NORMS: dict[str, tuple[Callable[..., Tensor], Callable[..., Tensor]]] = {
    "layer norm": (lambda x, gamma, beta: CustomLayerNormManualFunction.apply(x, gamma, beta, 1e-5),
                   lambda x, gamma, beta: F.layer_norm(x, x.shape[1:], gamma, beta)),
    "batch norm": (lambda x, gamma, beta: CustomBatchNormManualFunction.apply(x, gamma, beta, 1e-5),
                   lambda x, gamma, beta: F.batch_norm(x, None, None, gamma, beta, training=True)),
}


def forward_and_backward(norm: Callable[..., Tensor], shape: tuple[int, int], dtype: torch.dtype) -> Callable[[], None]:
    torch.manual_seed(0)
    inputs = [torch.randn(size, dtype=dtype, requires_grad=True) for size in (shape, shape[1], shape[1])]
    dy = torch.randn(shape, dtype=dtype)

    def run() -> None:
        for tensor in inputs:
            tensor.grad = None
        norm(*inputs).backward(dy)

    return run


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=31, help="times each side is measured (default: 31)")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(),
                        help="threads of PyTorch (default: as many as it takes by itself)")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    print(f"PyTorch {torch.__version__}, {arguments.threads} threads")
    for name, (ours, torchs) in NORMS.items():
        for dtype in (torch.float32, torch.float64, torch.bfloat16):
            for shape, calls in SHAPES.items():
                seconds = by_turns({"ours": forward_and_backward(ours, shape, dtype),
                                    "torch": forward_and_backward(torchs, shape, dtype)}, arguments.rounds, calls)
                goal = f"   (goal <= {GOALS[shape]})" if name == "layer norm" and dtype == torch.float32 else ""
                print(f"{name} {str(dtype).removeprefix('torch.'):9s} {shape!s:13s} "
                      f"ours {spread(seconds['ours'], 'ms', 1e3)}, torch {spread(seconds['torch'], 'ms', 1e3)}: "
                      f"{spread(ratio(seconds, 'ours', 'torch'))} x{goal}", flush=True)
