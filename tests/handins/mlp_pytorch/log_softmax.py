"""MLP whose output are log-probabilities (for nn.NLLLoss)"""
import torch
import torch.nn as nn
import torch.nn.functional as F


class MLP(nn.Module):

  def __init__(self, n_inputs, n_hidden, n_classes):
    super(MLP, self).__init__()
    self.hidden = nn.ModuleList()
    for n in n_hidden:
      self.hidden.append(nn.Linear(n_inputs, n))
      n_inputs = n
    self.out = nn.Linear(n_inputs, n_classes)

  def forward(self, x):
    for layer in self.hidden:
      x = F.elu(layer(x))
    return F.log_softmax(self.out(x), dim=1)
