"""Random changes of training images, a batch at a time and on the device: mirrored, shifted, cut out, mixed in pairs.

    x = flip(x)                     # each image with probability 1/2
    x = shift(x, 2)                 # up to 2 pixels each way
    x = cutout(x, 8)                # a square of 8 x 8 pixels is 0
    x, partner, weight = mix(x, 0.8)
    loss = weight * F.cross_entropy(net(x), t) + (1 - weight) * F.cross_entropy(net(x), t[partner])

Random numbers come from PyTorch's CPU generator whatever the device, so that a run can be resumed bit for bit.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def flip(x: Tensor, mirrored: Tensor | None = None) -> Tensor:
    """Each image of x, (B, C, H, W), mirrored left to right with probability 1/2, or where `mirrored` (B,) is true."""
    if mirrored is None:
        mirrored = torch.rand(len(x)) < 0.5
    return torch.where(mirrored.to(x.device, non_blocking=True)[:, None, None, None], x.flip(3), x)


def cutout(x: Tensor, pixels: int) -> Tensor:
    """Each image of x, (B, C, H, W), with a square of that many pixels a side, anywhere in it, set to 0."""
    def inside(size: int) -> Tensor:  # (B, size): which rows, or columns, are in the square
        first = torch.randint(max(size - pixels, 0) + 1, (len(x), 1), device="cpu").to(x.device, non_blocking=True)
        place = torch.arange(size, device=x.device)
        return (place >= first) & (place < first + pixels)

    rows, columns = inside(x.shape[2]), inside(x.shape[3])
    return x.masked_fill((rows[:, :, None] & columns[:, None, :])[:, None], 0)


def shift(x: Tensor, pixels: int, fill: str = "zero") -> Tensor:
    """Each image of x, (B, C, H, W), moved by whole pixels, drawn from -pixels..pixels for each axis.

    What moves in is 0, which is the mean image where that is subtracted; with fill="reflect" it is the image mirrored
    at its border.
    """
    size, _, height, width = x.shape
    down, right = torch.randint(2 * pixels + 1, (2, size), device="cpu").to(x.device, non_blocking=True)
    rows = down[:, None] + torch.arange(height, device=x.device)    # (B, H): where each row of the result comes from
    columns = right[:, None] + torch.arange(width, device=x.device)
    mode = "reflect" if fill == "reflect" else "constant"
    padded = F.pad(x, (pixels,) * 4, mode).permute(0, 2, 3, 1)      # (B, H + 2p, W + 2p, C)
    image = torch.arange(size, device=x.device)[:, None, None]
    return padded[image, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def mix(x: Tensor, alpha: float) -> tuple[Tensor, Tensor, float]:
    """Mixup (Zhang et al. 2018): x becomes w x + (1 - w) x[partner], w drawn once from Beta(alpha, alpha).

    Returns:
        The mixed batch, the partners' indices (B,), and w: the loss is mixed with the same weights.
    """
    weight = float(torch.distributions.Beta(alpha, alpha).sample())
    partner = torch.randperm(len(x)).to(x.device, non_blocking=True)
    return torch.lerp(x[partner], x, weight), partner, weight
