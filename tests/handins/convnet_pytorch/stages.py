"""
The network as five stages; each stage is a small module of its own.
"""
from collections import OrderedDict

import torch
from torch import nn


class PreActResNetBlock(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.F = nn.Sequential(OrderedDict(norm=nn.BatchNorm2d(width), act=nn.ReLU(),
                                           conv=nn.Conv2d(width, width, (3, 3), padding=(1, 1))))

    def forward(self, x):
        z = self.F(x)
        z += x
        return z


class Stage(nn.Module):
    """Blocks, then perhaps a 1x1 convolution, then pooling"""

    def __init__(self, width, n_blocks, n_out=None):
        super().__init__()
        self.blocks = nn.Sequential(*[PreActResNetBlock(width) for _ in range(n_blocks)])
        self.widen = nn.Identity() if n_out is None else nn.Conv2d(width, n_out, 1)
        self.pool = nn.MaxPool2d(kernel_size=3, stride=2, padding=1)

    def forward(self, x):
        return self.pool(self.widen(self.blocks(x)))


class ConvNet(nn.Module):
    def __init__(self, n_channels, n_classes):
        super().__init__()
        self.first = nn.Conv2d(n_channels, 64, kernel_size=3, stride=1, padding=1)
        self.stages = nn.ModuleList([Stage(64, 1, 128), Stage(128, 2, 256), Stage(256, 2, 512), Stage(512, 2),
                                     Stage(512, 2)])
        self.last_norm = nn.BatchNorm2d(512)
        self.fc = nn.Linear(512, n_classes)

    def forward(self, x):
        x = self.first(x)
        for stage in self.stages:
            x = stage(x)
        x = torch.relu(self.last_norm(x))
        return self.fc(torch.squeeze(torch.squeeze(x, 3), 2))
