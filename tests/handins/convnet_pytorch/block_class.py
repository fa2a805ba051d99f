"""
VGG with pre-activation skip connections in PyTorch.
"""
from __future__ import absolute_import
from __future__ import division
from __future__ import print_function

import torch
import torch.nn as nn


class PreAct(nn.Module):
  """BatchNorm, ReLU, 3x3 convolution and the skip connection around them."""

  def __init__(self, channels):
    super(PreAct, self).__init__()
    self.net = nn.Sequential(
      nn.BatchNorm2d(channels),
      nn.ReLU(),
      nn.Conv2d(channels, channels, kernel_size=3, stride=1, padding=1)
    )

  def forward(self, x):
    return x + self.net(x)


class ConvNet(nn.Module):

  def __init__(self, n_channels, n_classes):
    """
    n_channels: number of input channels
    n_classes: number of classes
    """
    super(ConvNet, self).__init__()

    self.features = nn.Sequential(
      nn.Conv2d(n_channels, 64, kernel_size=3, stride=1, padding=1),
      PreAct(64),
      nn.Conv2d(64, 128, kernel_size=1, stride=1, padding=0),
      nn.MaxPool2d(kernel_size=3, stride=2, padding=1),
      PreAct(128),
      PreAct(128),
      nn.Conv2d(128, 256, kernel_size=1, stride=1, padding=0),
      nn.MaxPool2d(kernel_size=3, stride=2, padding=1),
      PreAct(256),
      PreAct(256),
      nn.Conv2d(256, 512, kernel_size=1, stride=1, padding=0),
      nn.MaxPool2d(kernel_size=3, stride=2, padding=1),
      PreAct(512),
      PreAct(512),
      nn.MaxPool2d(kernel_size=3, stride=2, padding=1),
      PreAct(512),
      PreAct(512),
      nn.MaxPool2d(kernel_size=3, stride=2, padding=1),
      nn.BatchNorm2d(512),
      nn.ReLU()
    )
    self.linear = nn.Linear(512, n_classes)

  def forward(self, x):
    out = self.features(x)
    out = out.view(out.shape[0], -1)
    out = self.linear(out)
    return out
