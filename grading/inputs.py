"""The inputs that the modules of questions 1.2, 3.1 and 3.2 are tried on, each set drawn from a number."""

from __future__ import annotations

import numpy as np

Arrays = dict[str, np.ndarray]


def for_modules(seed: int) -> Arrays:
    """Question 1.2.

    x, other (5, 6), weight (4, 6), bias (4,), dout (5, 4), wide_dout (5, 6): linear modules. kinks: ELU near 0 and on
    both sides; zero: at 0. logits, p, targets (5, 4): softmax, and the loss of probabilities. large: inputs of ±1000.
    zero_p and zero_t: probabilities of 0 that are right, wrong_p and wrong_t: one that is wrong.
    """
    rng = np.random.default_rng(seed)
    normal = rng.standard_normal
    kinks = np.array([[-1e-3, 1e-3, 2.0, 0.7], [-3.0, 0.5, -0.5, -1.0]])
    large = np.array([[1000.0, -1000.0, 1.0], [-1000.0, -1000.0, -1000.0], [1000.0, 1000.0, 999.0]])
    return {"x": normal((5, 6)), "other": normal((5, 6)), "weight": normal((4, 6)), "bias": normal(4),
            "dout": normal((5, 4)), "wide_dout": normal((5, 6)),
            "kinks": kinks, "kinks_dout": normal(kinks.shape), "zero": np.zeros((1, 3)), "zero_dout": normal((1, 3)),
            "logits": 2 * normal((5, 4)), "logits_dout": normal((5, 4)),
            "p": rng.dirichlet(np.full(4, 3.0), 5), "targets": np.eye(4)[[2, 0, 3, 1, 1]],
            "large": large, "large_dout": normal(large.shape),
            "zero_p": np.array([[0.0, 1.0, 0.0], [0.25, 0.0, 0.75]]),
            "zero_t": np.array([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]),
            "wrong_p": np.array([[0.0, 1.0]]), "wrong_t": np.array([[1.0, 0.0]])}


def for_layer_norm(seed: int) -> Arrays:
    """Questions 3.1 and 3.2: x and dout (5, 7), gamma and beta (7,); narrow_...: of two features; mix (4,)."""
    rng = np.random.default_rng(seed)
    x, dout = rng.standard_normal((2, 5, 7))
    return {"x": x, "dout": dout, "gamma": rng.uniform(0.5, 2, 7), "beta": rng.standard_normal(7),
            "narrow_x": np.array([[1.0, 4.0], [-2.0, 0.5], [0.3, 0.1]]), "narrow_gamma": np.array([1.5, -0.7]),
            "narrow_beta": np.array([0.2, 0.9]), "narrow_dout": np.ones((3, 2)),
            "mix": np.array([1.7, -0.6, 2.3, 40.0])}


MODULES, LAYER_NORM = for_modules(12), for_layer_norm(3)
EPS = {"value": 1e-5, "large_eps": 0.5}  # of layer normalization, by the probe's name
