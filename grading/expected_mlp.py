"""Outputs of the MLPs of `inputs`, and their gradients by central differences, for questions 1.2 and 2.1."""

from __future__ import annotations

import functools

import numpy as np

from grading import oracle
from grading.inputs import Inputs


def logits(inputs: Inputs, name: str, changed: dict[str, np.ndarray] | None = None) -> np.ndarray:
    """Logits of the network, with some of its arrays replaced."""
    values = inputs.network(name) | (changed or {})
    weights, biases = ([values[f"{kind}{i}"] for i in inputs.layers(name)] for kind in ("weight", "bias"))
    return oracle.mlp_logits(values["x"], weights, biases)


@functools.cache
def gradients(inputs: Inputs, name: str, softmax: bool = True) -> dict[str, np.ndarray]:
    """{'0 weight', '0 bias', ...} of the sum of dout times the probabilities, or times the logits."""
    def output(key: str, value: np.ndarray) -> np.ndarray:
        found = logits(inputs, name, {key: value})
        return oracle.softmax(found) if softmax else found

    arrays = inputs.network(name)
    return {f"{i} {kind}": oracle.central_difference(functools.partial(output, key), arrays[key], arrays["dout"])
            for i in inputs.layers(name) for kind in ("weight", "bias") for key in [f"{kind}{i}"]}
