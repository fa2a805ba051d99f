"""Parameters made from a number, so that grader and worker need not send millions of them to each other."""

from __future__ import annotations

import numpy as np


def affine(number: int, index: int, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Weight of `shape` (out, in, ...) and bias (out,) of the `index`-th layer, drawn from `number`.

    Signals keep their size, about 1, through all blocks, so that no normalization is lost in them, and no softmax of
    the logits saturates. A convolution's bias is 0: whether it has one is up to the submission.
    """
    rng = np.random.default_rng([number, index])
    spread = np.float32((0.7 if len(shape) > 2 else 0.3) / np.sqrt(np.prod(shape[1:])))
    weight = rng.standard_normal(shape, np.float32) * spread
    bias = rng.standard_normal(shape[0], np.float32) * np.float32(0.1)
    return weight, bias if len(shape) == 2 else np.zeros_like(bias)


def batch_norm(number: int, index: int, channels: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """gamma, beta, running mean and running variance of the `index`-th layer, drawn from `number`."""
    rng = np.random.default_rng([number, index])
    gamma, variance = rng.uniform(0.5, 1.5, (2, channels)).astype(np.float32)
    beta, mean = 0.3 * rng.standard_normal((2, channels)).astype(np.float32)
    return gamma, beta, mean, variance


def mixed(x: np.ndarray, width: int, shift: float) -> np.ndarray:
    """Numbers (len(x), width) that depend on all of x and on `shift`, as those of a layer do, but come from none."""
    sums = np.cumsum(np.asarray(x, float))
    return np.sin(np.resize(sums + sums[-1], (len(x), width)) + shift)
