"""
MLP with batch normalisation of the input
"""
import torch
import torch.nn as nn


class MLP(nn.Module):

  def __init__(self, n_inputs, n_hidden, n_classes):
    super(MLP, self).__init__()

    # normalises the pixels; with a scale of 1 the learning rate of 1e-3 is too slow
    self.input_norm = nn.BatchNorm1d(n_inputs)
    nn.init.constant_(self.input_norm.weight, 30)
    self.linear = nn.ModuleList([])
    n_in = n_inputs
    for n_out in n_hidden:
      self.linear.append(nn.Linear(n_in, n_out))
      n_in = n_out
    self.elu = nn.ELU()  # has no state, one is enough
    self.final = nn.Linear(n_in, n_classes)

  def forward(self, x):
    h = self.input_norm(torch.flatten(x, 1))
    for linear in self.linear:
      h = self.elu(linear(h))
    return self.final(h)
