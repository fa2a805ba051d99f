"""A multi-layer perceptron in PyTorch (question 2.1)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn


class MLP(nn.Module):
    """Linear layers with ELU between them.

    n_inputs: features of a sample. n_hidden: widths of the hidden layers; [] is multinomial logistic regression.
    n_classes: number of classes.
    """

    def __init__(self, n_inputs: int, n_hidden: Sequence[int], n_classes: int):
        raise NotImplementedError

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x of shape (B, n_inputs) -> logits of shape (B, n_classes)."""
        raise NotImplementedError
