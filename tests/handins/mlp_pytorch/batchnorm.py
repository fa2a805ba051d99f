"""
MLP with batch normalisation
"""
import torch
import torch.nn as nn


class MLP(nn.Module):

  def __init__(self, n_inputs, n_hidden, n_classes):
    super(MLP, self).__init__()

    # normalises the pixels, so they need not be scaled by hand
    self.input_norm = nn.BatchNorm1d(n_inputs)
    self.linear = nn.ModuleList([])
    self.norm = nn.ModuleList([])
    n_in = n_inputs
    for n_out in n_hidden:
      self.linear.append(nn.Linear(n_in, n_out))
      self.norm.append(nn.BatchNorm1d(n_out))
      n_in = n_out
    self.elu = nn.ELU()  # has no state, one is enough
    self.final = nn.Linear(n_in, n_classes)

  def forward(self, x):
    h = self.input_norm(torch.flatten(x, 1))
    for linear, norm in zip(self.linear, self.norm):
      h = self.elu(norm(linear(h)))
    return self.final(h)
