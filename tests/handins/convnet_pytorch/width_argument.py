"""
ConvNet of question 4. The number of filters is an argument, to try smaller networks as well.
"""
import torch
import torch.nn as nn


class PreActivation(nn.Module):

  def __init__(self, in_channels):
    super(PreActivation, self).__init__()
    self.layers = nn.ModuleList([
      nn.BatchNorm2d(in_channels),
      nn.ReLU(),
      nn.Conv2d(in_channels, in_channels, kernel_size=(3, 3), stride=1, padding=1)])

  def forward(self, x):
    h = x
    for layer in self.layers:
      h = layer(h)
    return torch.add(x, h)


class ConvNet(nn.Module):

  def __init__(self, n_channels, n_classes, n_filters):
    super(ConvNet, self).__init__()
    f = n_filters
    pool = nn.MaxPool2d(3, stride=2, padding=1)  # without parameters, so one is enough

    self.conv0 = nn.Conv2d(n_channels, f, 3, stride=1, padding=1)
    self.block1 = nn.Sequential(PreActivation(f), nn.Conv2d(f, 2 * f, 1), pool)
    self.block2 = nn.Sequential(PreActivation(2 * f), PreActivation(2 * f), nn.Conv2d(2 * f, 4 * f, 1), pool)
    self.block3 = nn.Sequential(PreActivation(4 * f), PreActivation(4 * f), nn.Conv2d(4 * f, 8 * f, 1), pool)
    self.block4 = nn.Sequential(PreActivation(8 * f), PreActivation(8 * f), pool)
    self.block5 = nn.Sequential(PreActivation(8 * f), PreActivation(8 * f), pool)
    # after the last pooling every map is a single number
    self.bn = nn.BatchNorm1d(8 * f)
    self.fc = nn.Linear(8 * f, n_classes)

  def forward(self, x):
    h = self.conv0(x)
    h = self.block1(h)
    h = self.block2(h)
    h = self.block3(h)
    h = self.block4(h)
    h = self.block5(h)
    h = torch.relu(self.bn(h.reshape(h.size(0), -1)))
    return self.fc(h)
