"""Outputs of the MLPs of `networks`, and their gradients by central differences, for questions 1.2 and 2.1."""

from __future__ import annotations

import functools
from collections.abc import Collection

import numpy as np

from grading import oracle
from grading.networks import arrays, layers


def logits(name: str, changed: dict[str, np.ndarray] | None = None, without: Collection[int] = ()) -> np.ndarray:
    """Logits of the network, with some of its arrays replaced. without: hidden layers that no ELU follows."""
    values = arrays(name) | (changed or {})
    weights, biases = ([values[f"{kind}{i}"] for i in layers(name)] for kind in ("weight", "bias"))
    return oracle.mlp_logits(values["x"], weights, biases, without)


def activations_missing(name: str) -> dict[str, np.ndarray]:
    """Probabilities without ELU after one hidden layer or after all, or with one after the last layer."""
    hidden = layers(name)[:-1]
    found = {f"no_elu_{i + 1}": logits(name, without=[i]) for i in hidden} if len(hidden) > 1 else {}
    found |= {"no_elu": logits(name, without=hidden)} if hidden else {}
    return {key: oracle.softmax(value) for key, value in (found | {"elu_last": oracle.elu(logits(name))}).items()}


@functools.cache
def gradients(name: str, softmax: bool = True) -> dict[str, np.ndarray]:
    """{'0 weight', '0 bias', ...} of the sum of dout times the probabilities, or times the logits."""
    def output(key: str, value: np.ndarray) -> np.ndarray:
        found = logits(name, {key: value})
        return oracle.softmax(found) if softmax else found

    dout = arrays(name)["dout"]
    return {f"{i} {kind}": oracle.central_difference(functools.partial(output, key), arrays(name)[key], dout)
            for i in layers(name) for kind in ("weight", "bias") for key in [f"{kind}{i}"]}
