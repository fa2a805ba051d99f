"""A multi-layer perceptron from the modules of `modules.py` (question 1.2)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from modules import ELUModule, LinearModule, SoftMaxModule


class MLP:
    """Linear layers with ELU between them, and softmax after the last.

    n_inputs: features of a sample. n_hidden: widths of the hidden layers; [] is multinomial logistic regression.
    n_classes: number of classes.
    """

    def __init__(self, n_inputs: int, n_hidden: Sequence[int], n_classes: int):
        raise NotImplementedError

    def forward(self, x: np.ndarray) -> np.ndarray:
        """Probabilities of shape (S, n_classes) from x of shape (S, n_inputs)."""
        raise NotImplementedError

    def backward(self, dout: np.ndarray) -> None:
        """Fills every `grads`, from dout, dL/d(probabilities), of shape (S, n_classes)."""
        raise NotImplementedError
