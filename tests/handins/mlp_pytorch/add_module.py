"""
This module implements a multi-layer perceptron (MLP) in PyTorch.
"""
import torch.nn as nn


class MLP(nn.Module):
  def __init__(self, n_inputs, n_hidden, n_classes):
    super(MLP, self).__init__()
    self.n_hidden_layers = len(n_hidden)

    width = n_inputs
    for i in range(self.n_hidden_layers):
      self.add_module('hidden_%d' % i, nn.Linear(width, n_hidden[i]))
      self.add_module('elu_%d' % i, nn.ELU(alpha=1.0))
      width = n_hidden[i]
    self.add_module('output', nn.Linear(width, n_classes))

  def forward(self, x):
    # children come back in the order in which they were added
    for child in self.children():
      x = child(x)
    return x
