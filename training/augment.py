"""Random changes of training images, a batch at a time and on the device: mirrored, shifted, mixed in pairs.

    x = flip(x)                     # each image with probability 1/2
    x = shift(x, 2)                 # up to 2 pixels each way
    x, partner, weight = mix(x, 0.8)
    loss = weight * F.cross_entropy(net(x), t) + (1 - weight) * F.cross_entropy(net(x), t[partner])

Random numbers come from PyTorch's CPU generator whatever the device, so that a run can be resumed bit for bit.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def flip(x: Tensor) -> Tensor:
    """Each image of x, (B, C, H, W), mirrored left to right with probability 1/2."""
    mirrored = (torch.rand(len(x), 1, 1, 1) < 0.5).to(x.device)
    return torch.where(mirrored, x.flip(3), x)


def shift(x: Tensor, pixels: int) -> Tensor:
    """Each image of x, (B, C, H, W), moved by whole pixels, drawn from -pixels..pixels for each axis.

    What moves in is 0, which is the mean image where that is subtracted.
    """
    size, _, height, width = x.shape
    down, right = torch.randint(2 * pixels + 1, (2, size), device="cpu").to(x.device)
    rows = down[:, None] + torch.arange(height, device=x.device)    # (B, H): where each row of the result comes from
    columns = right[:, None] + torch.arange(width, device=x.device)
    padded = F.pad(x, (pixels,) * 4).permute(0, 2, 3, 1)            # (B, H + 2p, W + 2p, C)
    image = torch.arange(size, device=x.device)[:, None, None]
    return padded[image, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def mix(x: Tensor, alpha: float) -> tuple[Tensor, Tensor, float]:
    """Mixup (Zhang et al. 2018): x becomes w x + (1 - w) x[partner], w drawn once from Beta(alpha, alpha).

    Returns:
        The mixed batch, the partners' indices (B,), and w: the loss is mixed with the same weights.
    """
    weight = float(torch.distributions.Beta(alpha, alpha).sample())
    partner = torch.randperm(len(x)).to(x.device)
    return torch.lerp(x[partner], x, weight), partner, weight
