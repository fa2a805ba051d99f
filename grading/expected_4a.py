"""What is right in question 4a: the class probabilities of the table's network with the parameters of `weights`."""

from __future__ import annotations

import functools

import numpy as np

from grading import oracle
from grading.inputs import Inputs
from grading.worker import weights


@functools.cache
def values(inputs: Inputs) -> dict[str, np.ndarray]:
    """{'4a probabilities': (S, 10)} of the inputs' images."""
    logits = oracle.convnet_logits(inputs.images.astype(np.float64), functools.partial(weights.affine, inputs.weights),
                                   functools.partial(weights.batch_norm, inputs.weights))
    return {"4a probabilities": oracle.softmax(logits)}
