"""Time functions against each other, in one process and by turns, so that a busy moment hits all of them alike."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

Function = Callable[[], object]
Seconds = dict[str, list[float]]


@dataclass(frozen=True)
class Scaled:
    """A function of whose time `factor` times as much counts: a limit is measured on a sample of the work."""

    function: Function
    factor: float

    def __call__(self) -> None:
        self.function()


def by_turns(functions: dict[str, Function], rounds: int = 31, calls: int = 1, warm_up: bool = True) -> Seconds:
    """{name: seconds of one call, a value per round}; a first round, not counted, warms up.

    Every other round runs backwards, and of several calls one more goes first, uncounted: what the function before has
    left behind, in the caches or as threads that still spin, is not one function's burden.
    """
    seconds: Seconds = {name: [] for name in functions}
    for turn in range(-warm_up, rounds):
        for name in list(functions)[:: -1 if turn % 2 else 1]:
            function = functions[name]
            if calls > 1:
                function()
            start = time.perf_counter()
            for _ in range(calls):
                function()
            if turn >= 0:
                seconds[name].append((time.perf_counter() - start) / calls * getattr(function, "factor", 1))
    return seconds


def numpy_gemm(flops: float, size: int = 1024) -> Scaled:
    """The time `flops` take at the rate of NumPy's float32 product of square matrices."""
    a = np.random.default_rng(0).standard_normal((size, size), np.float32)
    out = np.empty_like(a)
    return Scaled(lambda: np.matmul(a, a, out=out), flops / (2 * size**3))


def torch_gemm(flops: float, dtype: torch.dtype = torch.float32, size: int = 1024) -> Scaled:
    """The time `flops` take at the rate of PyTorch's product of square matrices."""
    a = torch.randn(size, size).to(dtype)
    out = torch.empty_like(a)
    return Scaled(lambda: torch.mm(a, a, out=out), flops / (2 * size**3))


def torch_copy(like: torch.Tensor, arrays: int) -> Scaled:
    """The time to read or write `arrays` arrays like this one at the rate of copying it, which does so with two."""
    a, b = torch.randn_like(like), torch.empty_like(like)
    return Scaled(lambda: b.copy_(a), arrays / 2)
