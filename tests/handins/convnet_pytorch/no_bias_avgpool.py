import torch
from torch import nn


class ResBlock(nn.Module):
  def __init__(self, ch):
    super().__init__()
    self.norm = nn.BatchNorm2d(ch)
    self.act = nn.ReLU()
    # a bias makes no sense together with batch norm
    self.conv = nn.Conv2d(ch, ch, 3, padding=1, bias=False)

  def forward(self, x):
    identity = x
    x = self.norm(x)
    x = self.act(x)
    x = self.conv(x)
    return identity + x


class Stage(nn.Module):
  """n residual blocks, then (if the number of channels changes) a 1x1 convolution, then pooling"""

  def __init__(self, ch, n_blocks, ch_out=None):
    super().__init__()
    self.blocks = nn.Sequential(*[ResBlock(ch) for _ in range(n_blocks)])
    self.up = nn.Conv2d(ch, ch_out, 1, bias=False) if ch_out else nn.Identity()
    self.pool = nn.MaxPool2d(3, 2, 1)

  def forward(self, x):
    return self.pool(self.up(self.blocks(x)))


class ConvNet(nn.Module):
  def __init__(self, n_channels, n_classes):
    super().__init__()
    self.stem = nn.Conv2d(n_channels, 64, 3, padding=1, bias=False)
    self.stage1 = Stage(64, 1, 128)
    self.stage2 = Stage(128, 2, 256)
    self.stage3 = Stage(256, 2, 512)
    self.stage4 = Stage(512, 2)
    self.stage5 = Stage(512, 2)
    self.classifier = nn.Sequential(
      nn.BatchNorm2d(512),
      nn.ReLU(),
      nn.AdaptiveAvgPool2d(1),
      nn.Flatten(),
      nn.Linear(512, n_classes),
    )

  def forward(self, x):
    x = self.stem(x)
    for stage in (self.stage1, self.stage2, self.stage3, self.stage4, self.stage5):
      x = stage(x)
    return self.classifier(x)
