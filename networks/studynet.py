"""The CNN of the hyper-parameter study: LeNet's shape, two 5x5 convolutions and three fully connected layers."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "tanh": nn.Tanh, "sigmoid": nn.Sigmoid, "elu": nn.ELU}
MAX_CONVOLUTIONS = 4  # of 32 pixels a side they leave 14, 5, 2 and 1; a fifth would have nothing to pool


class StudyNet(nn.Module):
    """Images of shape (B, n_channels, image_size, image_size) -> logits of shape (B, n_classes).

    n_channels, image_size: of the input image. n_classes: number of classes.
    channels: output channels of the convolutions, one to four. Each is 5x5, a ReLU and 2x2 max pooling follow. The
        first two have no padding (32 -> 14 -> 5 pixels a side); further ones have 2, as 5x5 fits 5 pixels only once.
    fc: widths of the hidden fully connected layers. activation: theirs, a key of ACTIVATIONS.
    dropout: probability of zeroing a unit behind each of them.

    The study scaled its pixels to [-1, 1]. This package serves them on the scale 0..255 less the mean image, so the
    model divides by 127.5 first: the study's learning rates then fit. --pixel_scale is refused with it.
    """

    def __init__(self, n_channels: int, n_classes: int, channels: Sequence[int] = (6, 16),
                 fc: Sequence[int] = (120, 84), activation: str = "relu", dropout: float = 0.0, image_size: int = 32):
        super().__init__()
        if not 1 <= len(channels) <= MAX_CONVOLUTIONS:
            raise ValueError(f"one to {MAX_CONVOLUTIONS} convolutions fit {image_size} pixels, not {len(channels)}")
        layers: list[nn.Module] = []
        side = image_size
        for i, width in enumerate(channels):
            padding = 0 if i < 2 else 2
            layers += [nn.Conv2d(n_channels, width, kernel_size=5, padding=padding), nn.ReLU(), nn.MaxPool2d(2)]
            n_channels, side = width, (side - 4 + 2 * padding) // 2
        self.features = nn.Sequential(*layers)              # (B, channels[-1], side, side)

        layers, width = [], n_channels * side * side
        for hidden in fc:
            layers += [nn.Linear(width, hidden), ACTIVATIONS[activation]()]
            if dropout:
                layers.append(nn.Dropout(dropout))
            width = hidden
        self.classifier = nn.Sequential(*layers, nn.Linear(width, n_classes))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.classifier(self.features(x / 127.5).flatten(1))
