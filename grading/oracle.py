"""What is right: the assignment's formulas in NumPy float64, and central differences of them.

Nothing here is shared with the code that is graded, neither the submissions nor the reference.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

import numpy as np

from grading.networks import CONVNET

Array = np.ndarray


def central_difference(f: Callable[[Array], Array], x: Array, dout: Array, step: float = 1e-6) -> Array:
    """d(sum(f(x) * dout))/dx at every index of x, in float64, from f at x ± step."""
    x = np.array(x, np.float64)
    gradient = np.zeros_like(x)
    for index in np.ndindex(x.shape):
        kept = x[index]
        x[index] = kept + step
        above = f(x)
        x[index] = kept - step
        below = f(x)
        x[index] = kept
        gradient[index] = np.sum((above - below) * dout) / (2 * step)
    return gradient


def linear(x: Array, weight: Array, bias: Array) -> Array:
    """x (S, M), weight (N, M), bias (N,) -> (S, N)."""
    return np.einsum("sm,nm->sn", x, weight) + bias


def elu(x: Array) -> Array:
    """x for x >= 0, e^x - 1 below."""
    return np.where(x >= 0, x, np.expm1(np.minimum(x, 0)))


def softmax(x: Array) -> Array:
    """Rows of logits -> rows of probabilities."""
    e = np.exp(x - x.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def cross_entropy(x: Array, y: Array) -> Array:
    """Mean over the batch of -sum_k y log x; x, y (S, C)."""
    return -(y * np.log(x)).sum() / len(x)


def mlp_logits(x: Array, weights: Sequence[Array], biases: Sequence[Array], without: Collection[int] = ()) -> Array:
    """ELU after every linear layer but the last, and those that `without` numbers."""
    for i, (weight, bias) in enumerate(zip(weights[:-1], biases[:-1], strict=True)):
        x = linear(x, weight, bias) if i in without else elu(linear(x, weight, bias))
    return linear(x, weights[-1], biases[-1])


def layer_norm(x: Array, gamma: Array, beta: Array, eps: float) -> Array:
    """Each row of x (S, M) less its mean, over its standard deviation (biased), times gamma plus beta."""
    centred = x - x.mean(axis=1, keepdims=True)
    return gamma * centred / np.sqrt((centred**2).mean(axis=1, keepdims=True) + eps) + beta


def normalized(x: Array, eps: float) -> Array:
    """x-hat of layer_norm."""
    return layer_norm(x, np.ones(x.shape[1]), np.zeros(x.shape[1]), eps)


# ---------------------------------------------------------------- the ConvNet of question 4a

def convolution(x: Array, weight: Array, bias: Array) -> Array:
    """Stride 1, padding that keeps the size: x (S, C, H, W), weight (O, C, k, k) -> (S, O, H, W)."""
    k = weight.shape[2]
    padded = np.pad(x, ((0, 0), (0, 0), (k // 2, k // 2), (k // 2, k // 2)))
    height, width = x.shape[2:]
    y = np.zeros((len(weight), len(x), height, width), x.dtype)
    for i in range(k):
        for j in range(k):
            y += np.tensordot(weight[:, :, i, j], padded[:, :, i:i + height, j:j + width], axes=(1, 1))
    return y.transpose(1, 0, 2, 3) + bias[:, None, None]


def max_pool(x: Array) -> Array:
    """3x3, stride 2, padding 1."""
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)), constant_values=-np.inf)
    return np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))[:, :, ::2, ::2].max(axis=(4, 5))


def batch_norm(x: Array, gamma: Array, beta: Array, mean: Array, variance: Array, eps: float = 1e-5) -> Array:
    """With running statistics, as in evaluation."""
    g, b, m, v = (a[:, None, None] for a in (gamma, beta, mean, variance))
    return g * (x - m) / np.sqrt(v + eps) + b


def convnet_logits(x: Array, convolution_of: Callable[[int, tuple[int, ...]], tuple[Array, Array]],
                   batch_norm_of: Callable[[int, int], tuple[Array, Array, Array, Array]]) -> Array:
    """The table's network in evaluation; parameters come from the functions given, by place and shape."""
    index = 0
    for name, *sizes in CONVNET:
        if not sizes:
            x = max_pool(x)
            continue
        channels_in, channels_out, kernel = sizes
        inner = x
        if name.startswith("PreAct"):
            inner = np.maximum(batch_norm(x, *batch_norm_of(index, channels_in)), 0)
            index += 1
        y = convolution(inner, *convolution_of(index, (channels_out, channels_in, kernel, kernel)))
        index += 1
        x = x + y if name.startswith("PreAct") else y
    x = np.maximum(batch_norm(x, *batch_norm_of(index, 512)), 0)[:, :, 0, 0]
    return linear(x, *convolution_of(index + 1, (10, 512)))
