"""What is right in questions 3.1 and 3.2, and what well-known mistakes give: the inputs under `oracle`.

Gradients are central differences, so that no derivation of ours is taken as right.
"""

from __future__ import annotations

import numpy as np

from grading import oracle
from grading.expected_1_2 import Named, named
from grading.inputs import EPS, Inputs

Array = np.ndarray


def values(inputs: Inputs) -> Named:
    """Arrays by name."""
    given = inputs.layer_norm
    x, gamma, beta, dout = (given[key] for key in ("x", "gamma", "beta", "dout"))
    two = {key: given[f"narrow_{key}"] for key in ("x", "gamma", "beta")}  # two features double Bessel's variance
    parts = named("narrow forward", oracle.layer_norm(**two, eps=EPS["value"]), bessel=bessel(**two, eps=EPS["value"]))
    for name, eps in EPS.items():
        parts |= value(name, x, gamma, beta, eps) | gradients(name, x, gamma, beta, dout, eps)
    parts |= kept(x, gamma, beta) | {f"shown {i}": oracle.normalized(inputs.shown[str(i)], EPS["value"])
                                     for i, (wrong, _) in enumerate(inputs.offered) if not wrong}
    return {f"3 {name}": np.asarray(array, float) for name, array in parts.items()}


def bessel(x: Array, gamma: Array, beta: Array, eps: float) -> Array:
    """Layer normalization by a variance with Bessel's correction."""
    centred = x - x.mean(axis=1, keepdims=True)
    return gamma * centred / np.sqrt(x.var(axis=1, ddof=1, keepdims=True) + eps) + beta


def value(name: str, x: Array, gamma: Array, beta: Array, eps: float) -> Named:
    centred, std = x - x.mean(axis=1, keepdims=True), x.std(axis=1, keepdims=True)
    return named(
        f"{name} forward", oracle.layer_norm(x, gamma, beta, eps),
        bessel=bessel(x, gamma, beta, eps),
        eps_outside=gamma * centred / (std + eps) + beta,
        no_root=gamma * centred / (std**2 + eps) + beta,
        over_the_batch=gamma * (x - x.mean(axis=0)) / np.sqrt(x.var(axis=0) + eps) + beta,
        no_beta=oracle.layer_norm(x, gamma, 0 * beta, eps),
        not_scaled=oracle.normalized(x, eps),
        own_eps=oracle.layer_norm(x, gamma, beta, EPS["value"]))


def gradients(name: str, x: Array, gamma: Array, beta: Array, dout: Array, eps: float) -> Named:
    x_hat = oracle.normalized(x, eps)
    scale = 1 / np.sqrt(x.var(axis=1, keepdims=True) + eps)
    upstream = dout * gamma * scale

    def mean(array: Array) -> Array:
        return array.mean(axis=1, keepdims=True)

    by_input = oracle.central_difference(lambda at: oracle.layer_norm(at, gamma, beta, eps), x, dout)
    by_gamma = oracle.central_difference(lambda at: oracle.layer_norm(x, at, beta, eps), gamma, dout)
    by_beta = oracle.central_difference(lambda at: oracle.layer_norm(x, gamma, at, eps), beta, dout)
    return (named(f"{name} input", by_input, constants=upstream, no_variance=upstream - mean(upstream),
                  no_gamma=scale * (dout - mean(dout) - x_hat * mean(dout * x_hat)))
            | named(f"{name} gamma", by_gamma, no_factor=dout.sum(axis=0), x=(dout * x).sum(axis=0),
                    mean=(dout * x_hat).mean(axis=0))
            | named(f"{name} beta", by_beta, mean=dout.mean(axis=0), features=dout.sum(axis=1)))


def kept(x: Array, gamma: Array, beta: Array) -> Named:
    """What a forward pass may keep that is as large as the input."""
    x_hat = oracle.normalized(x, EPS["value"])
    return {"kept normalized": x_hat, "kept normalized and scaled": x_hat * gamma,
            "kept output": x_hat * gamma + beta, "kept centred": x - x.mean(axis=1, keepdims=True)}
