"""The ConvNet of question 4a: a VGG13-like network with pre-activation skip connections, 11,138,122 parameters."""

from __future__ import annotations

import torch
from torch import nn


class PreActBlock(nn.Module):
    """x + Conv3x3(ReLU(BatchNorm(x))): He et al. 2016, "Identity mappings in deep residual networks", simplified.

    Input and output of shape (B, n_channels, H, W).
    """

    def __init__(self, n_channels: int):
        super().__init__()
        self.norm = nn.BatchNorm2d(n_channels)
        self.conv = nn.Conv2d(n_channels, n_channels, kernel_size=3, stride=1, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.conv(torch.relu_(self.norm(x)))


class ConvNet(nn.Module):
    """Images of shape (B, n_channels, 32, 32) -> logits of shape (B, n_classes).

    n_channels: channels of the input image. n_classes: number of classes.
    Convolutions, BatchNorm and the linear layer start from PyTorch's default initialisation.
    """

    def __init__(self, n_channels: int, n_classes: int):
        super().__init__()

        def maxpool() -> nn.Module:
            return nn.MaxPool2d(kernel_size=3, stride=2, padding=1)

        self.features = nn.Sequential(
            nn.Conv2d(n_channels, 64, kernel_size=3, padding=1),  # conv0      (B, 64, 32, 32)
            PreActBlock(64),                                      # PreAct1
            nn.Conv2d(64, 128, kernel_size=1),                    # conv1      (B, 128, 32, 32)
            maxpool(),                                            # maxpool1   (B, 128, 16, 16)
            PreActBlock(128),                                     # PreAct2_a
            PreActBlock(128),                                     # PreAct2_b
            nn.Conv2d(128, 256, kernel_size=1),                   # conv2      (B, 256, 16, 16)
            maxpool(),                                            # maxpool2   (B, 256, 8, 8)
            PreActBlock(256),                                     # PreAct3_a
            PreActBlock(256),                                     # PreAct3_b
            nn.Conv2d(256, 512, kernel_size=1),                   # conv3      (B, 512, 8, 8)
            maxpool(),                                            # maxpool3   (B, 512, 4, 4)
            PreActBlock(512),                                     # PreAct4_a
            PreActBlock(512),                                     # PreAct4_b
            maxpool(),                                            # maxpool4   (B, 512, 2, 2)
            PreActBlock(512),                                     # PreAct5_a
            PreActBlock(512),                                     # PreAct5_b
            maxpool(),                                            # maxpool5   (B, 512, 1, 1)
            nn.BatchNorm2d(512),
            nn.ReLU(inplace=True),
        )
        self.classifier = nn.Linear(512, n_classes)               # linear     (B, n_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.classifier(self.features(x).flatten(1))
