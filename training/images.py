"""A split on the device that computes: the pixels stay there as bytes, and batches are made there.

    images = Images(data.train, torch.device("cuda"))
    x, labels = images.at(data.train.next_indices(512))     # float32 (512, 3, 32, 32) and int64 (512,), on the device

The `DataSet` draws the order of the batches, so that a run takes the same ones on any device; their indices are all
that a step copies there, and nothing waits for the device. On the CPU the bytes are those of the `DataSet`, and a batch
equals its `next_batch` bit for bit.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn

from imagefiles.dataset import DataSet


def layout_of(model: nn.Module) -> torch.memory_format:
    """How images are laid out for `model`: channels_last for convolutions, which run faster on it; not for an MLP."""
    convolves = any(parameter.ndim == 4 for parameter in model.parameters())
    return torch.channels_last if convolves else torch.preserve_format


class Images:
    """The images and labels of `split` on `device`, served as float32 in the layout `layout`."""

    def __init__(self, split: DataSet, device: torch.device, layout: torch.memory_format = torch.preserve_format):
        def to_device(array: np.ndarray) -> Tensor:
            return torch.from_numpy(np.require(array, requirements="W")).to(device)  # the same memory on the CPU

        self.split, self.device, self.layout = split, device, layout
        self.pixels, self.labels = to_device(split.pixels), to_device(split.labels)
        self.mean = None if split.mean is None else to_device(split.mean)

    def at(self, indices: np.ndarray) -> tuple[Tensor, Tensor]:
        """The images (B, C, H, W) and the labels (B,) with these indices (B,)."""
        chosen = torch.from_numpy(indices).to(self.device, non_blocking=True)
        return self._as_float(self.pixels.index_select(0, chosen)), self.labels.index_select(0, chosen)

    def batches(self, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """The split once, in order; the last batch may be smaller."""
        parts = ((self.pixels[start:start + batch_size], self.labels[start:start + batch_size])
                 for start in range(0, len(self.pixels), batch_size))
        for pixels, labels in self.split.shown(parts):
            yield self._as_float(pixels), labels

    def _as_float(self, pixels: Tensor) -> Tensor:
        x = pixels.to(torch.float32, memory_format=self.layout, copy=True)
        if self.mean is not None:
            x -= self.mean
        return x if self.split.scale == 1 else x.mul_(self.split.scale)
