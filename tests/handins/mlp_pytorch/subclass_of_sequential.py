"""
This module implements a multi-layer perceptron (MLP) in PyTorch: it is a Sequential itself.
"""
import torch.nn as nn


class Flat(nn.Module):
    def forward(self, x):
        return x.reshape(len(x), -1)


class MLP(nn.Sequential):
    def __init__(self, n_inputs, n_hidden, n_classes):
        sizes = (n_inputs,) + tuple(n_hidden)
        hidden = [m for i, o in zip(sizes[:-1], sizes[1:]) for m in (nn.Linear(i, o), nn.ELU(alpha=1.0))]
        super(MLP, self).__init__(Flat(), *hidden, nn.Linear(sizes[-1], n_classes))
