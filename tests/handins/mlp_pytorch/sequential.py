"""
MLP in PyTorch: everything in one nn.Sequential.
"""
from __future__ import absolute_import
from __future__ import division
from __future__ import print_function

import torch
import torch.nn as nn


class MLP(nn.Module):
  """
  Multi-layer perceptron with ELU activations. The output are the logits.
  """

  def __init__(self, n_inputs, n_hidden, n_classes):
    super(MLP, self).__init__()
    layers = []
    for units in n_hidden:
      layers.append(nn.Linear(n_inputs, units))
      layers.append(nn.ELU())
      n_inputs = units
    layers.append(nn.Linear(n_inputs, n_classes))
    self.layers = nn.Sequential(*layers)

  def forward(self, x):
    out = self.layers(x)
    return out
