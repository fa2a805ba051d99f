"""
ConvNet, built from a list as in the VGG of torchvision
"""
import torch.nn as nn

# number: 1x1 convolution to so many channels, 'R': pre-activation block, 'M': max pooling
CONFIG = ['R', 128, 'M', 'R', 'R', 256, 'M', 'R', 'R', 512, 'M', 'R', 'R', 'M', 'R', 'R', 'M']


class Residual(nn.Sequential):
    """A Sequential with a skip connection"""

    def forward(self, x):
        return x + super(Residual, self).forward(x)


def preact(c):
    return Residual(nn.BatchNorm2d(c), nn.ReLU(inplace=True), nn.Conv2d(c, c, 3, padding=1))


class ConvNet(nn.Module):
    def __init__(self, n_channels, n_classes):
        super(ConvNet, self).__init__()
        c = 64
        self.blocks = nn.ModuleList([nn.Conv2d(n_channels, c, 3, padding=1)])
        for item in CONFIG:
            if item == 'R':
                self.blocks.append(preact(c))
            elif item == 'M':
                self.blocks.append(nn.MaxPool2d(3, stride=2, padding=1))
            else:
                self.blocks.append(nn.Conv2d(c, item, 1))
                c = item
        self.head = nn.Sequential(nn.BatchNorm2d(c), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(c, n_classes))

    def forward(self, x):
        for block in self.blocks:
            x = block(x)
        return self.head(x)
