"""Numerical gradients, and an assertion that says where two gradients part."""

from collections.abc import Callable
from typing import Any

import numpy as np


def numerical_gradient(f: Callable[[np.ndarray], Any], x: np.ndarray, dout: Any, eps: float = 1e-6) -> np.ndarray:
    """dL/dX of L = Σ f(x) ∘ dout by central differences at every index of x.

    Args:
        f: function of an array of the shape of x; gives an array of the shape of dout, or a number.
        x: float64, of any shape; left as it is.
        dout: dL/df, of the shape of f(x).
        eps: step to either side.

    Returns:
        Array of the shape of x.
    """
    assert x.dtype == np.float64, "central differences need float64"
    x = x.copy()
    gradient = np.empty_like(x)
    for index in np.ndindex(x.shape):
        value = x[index]
        x[index] = value + eps
        above = np.array(f(x))  # a copy, should f return what it works on
        x[index] = value - eps
        below = np.array(f(x))
        x[index] = value
        gradient[index] = np.sum((above - below) * dout) / (2 * eps)
    return gradient


def assert_gradient(name: str, expected: np.ndarray, received: np.ndarray, input: Any = None,
                    rtol: float = 1e-6, atol: float = 1e-7) -> None:
    """Fails unless both have one shape and |expected - received| <= atol + rtol |expected| at every index."""
    __tracebackhide__ = True
    assert isinstance(received, np.ndarray), f"{name}: expected an array, received {type(received).__name__}"
    assert received.shape == expected.shape, f"{name}: expected shape {expected.shape}, received {received.shape}"
    error = np.abs(expected - received)
    wrong = ~(error <= atol + rtol * np.abs(expected))  # a NaN is wrong
    if wrong.any():
        worst = np.unravel_index(np.argmax(np.where(np.isnan(error), np.inf, error)), error.shape)
        raise AssertionError(
            f"gradient of {name}: {wrong.sum()} of {wrong.size} elements are wrong, most at "
            f"{list(map(int, worst))}: expected {expected[worst]:.6g}, received {received[worst]:.6g}\n"
            + "\n".join(f"{what:9} {brief(array)}" for what, array in (
                ("input", input), ("expected", expected), ("received", received))))


def brief(array: Any) -> str:
    """An array in a few lines."""
    return np.array2string(np.asarray(array), precision=5, threshold=30, edgeitems=2, prefix=" " * 10)


def check_module(module: Any, x: np.ndarray, dout: np.ndarray) -> None:
    """Compares dL/dX and every entry of `module.grads` with central differences, at every index, in float64."""
    __tracebackhide__ = True
    name = type(module).__name__
    module.forward(x)
    dx = module.backward(dout)
    received = {key: value.copy() for key, value in getattr(module, "grads", {}).items()}
    assert_gradient(f"{name}, input", numerical_gradient(module.forward, x, dout), dx, x)
    for key, gradient in received.items():
        original = module.params[key]

        def forward(value: np.ndarray, key: str = key) -> np.ndarray:
            module.params[key] = value
            return module.forward(x)

        expected = numerical_gradient(forward, original, dout)
        module.params[key] = original
        assert_gradient(f"{name}, {key}", expected, gradient, x)
