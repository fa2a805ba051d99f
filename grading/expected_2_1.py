"""What is right in question 2.1: the MLPs' class probabilities and the gradients through them."""

from __future__ import annotations

import numpy as np

from grading import expected_mlp, oracle
from grading.networks import NETWORKS


def values() -> dict[str, np.ndarray]:
    """{'2.1 mlp_1 probabilities': (S, C), '2.1 mlp_1 0 weight': (out, in), '2.1 mlp_1 0 bias': (out,), ...}."""
    found = {}
    for name in NETWORKS:
        found[f"2.1 {name} probabilities"] = oracle.softmax(expected_mlp.logits(name))
        found |= {f"2.1 {name} {key}": value for key, value in expected_mlp.gradients(name).items()}
    return found
