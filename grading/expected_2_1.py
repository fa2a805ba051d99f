"""What is right in question 2.1: the MLPs' class probabilities and the gradients through them."""

from __future__ import annotations

import itertools

import numpy as np

from grading import expected_mlp, oracle
from grading.inputs import Inputs


def values(inputs: Inputs) -> dict[str, np.ndarray]:
    """{'2.1 mlp_1 probabilities': (S, C), '2.1 mlp_1 0 weight': (out, in), '2.1 mlp_1 0 bias': (out,), ...}.

    Also '2.1 mlp_1 probabilities: no bias in [0, 1]', for any layers, and of the first layer alone '2.1 mlp_1 first'
    and '2.1 mlp_1 first of ELU'.
    """
    found = {}
    for name in inputs.networks:
        arrays, layers = inputs.network(name), inputs.layers(name)
        for mistake, bias in (("", arrays["bias0"]), (": no bias", 0 * arrays["bias0"])):
            for of, x in (("", arrays["x"]), (" of ELU", oracle.elu(arrays["x"]))):
                found[f"2.1 {name} first{of}{mistake}"] = oracle.mlp_logits(x, [arrays["weight0"]], [bias])
        for count in range(1, len(layers) + 1):
            for without in map(list, itertools.combinations(layers, count)):
                zeros = {f"bias{i}": 0 * arrays[f"bias{i}"] for i in without}
                found[f"2.1 {name} probabilities: no bias in {without}"] = oracle.softmax(
                    expected_mlp.logits(inputs, name, zeros))
        found[f"2.1 {name} probabilities"] = oracle.softmax(expected_mlp.logits(inputs, name))
        found |= {f"2.1 {name} {key}": value for key, value in expected_mlp.gradients(inputs, name).items()}
    return found
