"""The MLPs that both questions about them are tried on: sizes, parameters, and gradients by central differences."""

from __future__ import annotations

import functools
from itertools import pairwise

import numpy as np

from grading import oracle

NETWORKS = {"mlp_0": [6, 3], "mlp_1": [6, 5, 3], "mlp_3": [6, 5, 4, 7, 3]}  # 0, 1 and 3 hidden layers
SAMPLES = 5


@functools.cache
def arrays(name: str) -> dict[str, np.ndarray]:
    """Input `x`, upstream gradient `dout`, and `weight<i>` (out, in) and `bias<i>` (out,) of each layer."""
    sizes = NETWORKS[name]
    draw = np.random.default_rng(sizes).standard_normal
    found = {"x": draw((SAMPLES, sizes[0])), "dout": draw((SAMPLES, sizes[-1]))}
    for i, (n_in, n_out) in enumerate(pairwise(sizes)):
        found |= {f"weight{i}": 0.8 * draw((n_out, n_in)), f"bias{i}": 0.5 * draw(n_out)}
    return found


def layers(name: str) -> range:
    return range(len(NETWORKS[name]) - 1)


def logits(name: str, changed: dict[str, np.ndarray] | None = None) -> np.ndarray:
    """Logits of the network, with some of its arrays replaced."""
    values = arrays(name) | (changed or {})
    weights, biases = ([values[f"{kind}{i}"] for i in layers(name)] for kind in ("weight", "bias"))
    return oracle.mlp_logits(values["x"], weights, biases)


@functools.cache
def gradients(name: str, probabilities: bool) -> dict[str, np.ndarray]:
    """{'0 weight', '0 bias', ...} of the sum of dout times the logits, or times the probabilities."""
    def output(key: str, value: np.ndarray) -> np.ndarray:
        found = logits(name, {key: value})
        return oracle.softmax(found) if probabilities else found

    dout = arrays(name)["dout"]
    return {f"{i} {kind}": oracle.central_difference(functools.partial(output, key), arrays(name)[key], dout)
            for i in layers(name) for kind in ("weight", "bias") for key in [f"{kind}{i}"]}
