"""Outputs of the MLPs of `inputs`, and their gradients by central differences, for questions 1.2 and 2.1."""

from __future__ import annotations

import functools
from collections.abc import Collection

import numpy as np

from grading import oracle
from grading.inputs import Inputs


def logits(inputs: Inputs, name: str, changed: dict[str, np.ndarray] | None = None,
           without: Collection[int] = ()) -> np.ndarray:
    """Logits of the network, with some of its arrays replaced. without: hidden layers that no ELU follows."""
    values = inputs.network(name) | (changed or {})
    weights, biases = ([values[f"{kind}{i}"] for i in inputs.layers(name)] for kind in ("weight", "bias"))
    return oracle.mlp_logits(values["x"], weights, biases, without)


def activations_missing(inputs: Inputs, name: str) -> dict[str, np.ndarray]:
    """Probabilities without ELU after one hidden layer or after all, or with one after the last layer."""
    hidden = inputs.layers(name)[:-1]
    found = {f"no_elu_{i + 1}": logits(inputs, name, without=[i]) for i in hidden} if len(hidden) > 1 else {}
    found |= {"no_elu": logits(inputs, name, without=hidden)} if hidden else {}
    found["elu_last"] = oracle.elu(logits(inputs, name))
    return {key: oracle.softmax(value) for key, value in found.items()}


@functools.cache
def gradients(inputs: Inputs, name: str, softmax: bool = True) -> dict[str, np.ndarray]:
    """{'0 weight', '0 bias', ...} of the sum of dout times the probabilities, or times the logits."""
    def output(key: str, value: np.ndarray) -> np.ndarray:
        found = logits(inputs, name, {key: value})
        return oracle.softmax(found) if softmax else found

    arrays = inputs.network(name)
    return {f"{i} {kind}": oracle.central_difference(functools.partial(output, key), arrays[key], arrays["dout"])
            for i in inputs.layers(name) for kind in ("weight", "bias") for key in [f"{kind}{i}"]}
