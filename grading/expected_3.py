"""What is right in questions 3.1 and 3.2, and what well-known mistakes give: the inputs under `oracle`.

Gradients are central differences, so that no derivation of ours is taken as right.
"""

from __future__ import annotations

from collections.abc import Callable

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
        batch_mean=gamma * (x - x.mean(axis=0)) / np.sqrt(std**2 + eps) + beta,
        batch_variance=gamma * centred / np.sqrt(x.var(axis=0) + eps) + beta,
        by_samples=gamma * centred / np.sqrt((centred**2).sum(axis=1, keepdims=True) / len(x) + eps) + beta,
        whole=gamma * (x - x.mean()) / np.sqrt(x.var() + eps) + beta,
        no_beta=oracle.layer_norm(x, gamma, 0 * beta, eps),
        not_scaled=oracle.normalized(x, eps),
        own_eps=oracle.layer_norm(x, gamma, beta, EPS["value"]), no_eps=oracle.layer_norm(x, gamma, beta, 0))


def gradients(name: str, x: Array, gamma: Array, beta: Array, dout: Array, eps: float) -> Named:
    variance = x.var(axis=1, keepdims=True)
    x_hat, scale = oracle.normalized(x, eps), 1 / np.sqrt(variance + eps)
    small_hat, small_scale = oracle.normalized(x, EPS["value"]), 1 / np.sqrt(variance + EPS["value"])
    d, centred = dout * gamma, x - x.mean(axis=1, keepdims=True)
    sample = 1 / np.sqrt(x.var(axis=1, ddof=1, keepdims=True) + eps)

    def rows(array: Array) -> Array:
        return array.mean(axis=1, keepdims=True)

    def batch(array: Array) -> Array:
        return array.mean(axis=0)

    def totals(array: Array) -> Array:
        return array.sum(axis=1, keepdims=True)

    def wrong(mean: Callable[[Array], Array] = rows, product: Callable[[Array], Array] = rows, scale: Array = scale,
              x_hat: Array = x_hat, d: Array = d) -> Array:
        """The input's gradient with a mistake in one of its parts."""
        return scale * (d - mean(d) - x_hat * product(d * x_hat))

    def by(at: float) -> dict[str, Array]:
        """Gradients where the eps is `at`."""
        return {"input": oracle.central_difference(lambda v: oracle.layer_norm(v, gamma, beta, at), x, dout),
                "gamma": oracle.central_difference(lambda v: oracle.layer_norm(x, v, beta, at), gamma, dout),
                "beta": oracle.central_difference(lambda v: oracle.layer_norm(x, gamma, v, at), beta, dout)}

    right, own, none = by(eps), by(EPS["value"]), by(0)
    return (named(f"{name} input", right["input"], constants=scale * d, no_variance=scale * (d - rows(d)),
                  no_gamma=wrong(d=dout), batch_means=wrong(batch, batch), batch_mean=wrong(batch),
                  batch_product=wrong(rows, batch), whole_means=wrong(np.mean, np.mean),
                  sums=wrong(totals, totals), sum=wrong(totals), sum_of_products=wrong(rows, totals),
                  variance=wrong(scale=variance, x_hat=centred * variance),
                  variance_and_eps=wrong(scale=variance + eps, x_hat=centred * (variance + eps)),
                  deviation=wrong(scale=1 / scale, x_hat=centred / scale),
                  centred=wrong(x_hat=centred), bessel=wrong(scale=sample, x_hat=centred * sample),
                  by_variance=wrong(scale=scale**2, x_hat=centred * scale**2), no_mean=wrong(np.zeros_like),
                  no_deviation=wrong(scale=np.ones(())), own_eps=own["input"], no_eps=none["input"],
                  own_eps_in_the_deviation=wrong(scale=small_scale), **{"own_eps_in_x-hat": wrong(x_hat=small_hat)})
            | named(f"{name} gamma", right["gamma"], no_factor=dout.sum(axis=0), x=(dout * x).sum(axis=0),
                    mean=batch(dout * x_hat), features=(dout * x_hat).sum(axis=1),
                    no_deviation=(dout * x_hat / scale).sum(axis=0), own_eps=own["gamma"], no_eps=none["gamma"])
            | named(f"{name} beta", right["beta"], mean=batch(dout), features=dout.sum(axis=1)))


def kept(x: Array, gamma: Array, beta: Array) -> Named:
    """What a forward pass may keep that is as large as the input."""
    x_hat = oracle.normalized(x, EPS["value"])
    return {"kept normalized": x_hat, "kept normalized and scaled": x_hat * gamma,
            "kept output": x_hat * gamma + beta, "kept centred": x - x.mean(axis=1, keepdims=True)}
