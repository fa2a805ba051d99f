"""Convolutional network with 13 layers and skip connections"""
import torch.nn as nn
import torch.nn.functional as F


def conv3x3(n_in, n_out):
    return nn.Conv2d(n_in, n_out, kernel_size=3, padding=1)


class ConvNet(nn.Module):
    def __init__(self, n_channels, n_classes):
        super(ConvNet, self).__init__()
        widths = [64, 128, 256, 512, 512]
        self.add_module('first', conv3x3(n_channels, widths[0]))
        self.plan = []
        for nr, width in enumerate(widths):
            for letter in ('a' if nr == 0 else 'ab'):
                name = 'preact_%d%s' % (nr, letter)
                self.add_module(name + '_norm', nn.BatchNorm2d(width))
                self.add_module(name + '_conv', conv3x3(width, width))
                self.plan.append(name)
            if nr + 1 < len(widths) and widths[nr + 1] != width:
                self.add_module('up_%d' % nr, nn.Conv2d(width, widths[nr + 1], kernel_size=1))
                self.plan.append('up_%d' % nr)
            self.plan.append('pool')
        self.last_norm = nn.BatchNorm2d(widths[-1])
        self.last = nn.Linear(widths[-1], n_classes)

    def forward(self, x):
        x = self.first(x)
        for name in self.plan:
            if name == 'pool':
                x = F.max_pool2d(x, kernel_size=3, stride=2, padding=1)
            elif name.startswith('up'):
                x = getattr(self, name)(x)
            else:
                h = F.relu(getattr(self, name + '_norm')(x))
                x = x + getattr(self, name + '_conv')(h)
        x = F.relu(self.last_norm(x))
        return self.last(x.view(x.size(0), -1))
