import numpy as np

from modules import *


class MLP(object):

  def __init__(self, n_inputs, n_hidden, n_classes):
    # list of (linear, activation)
    self.blocks = []
    dims = np.array([n_inputs, *n_hidden], dtype=int)
    for a, b in zip(dims[:-1], dims[1:]):
      self.blocks.append((LinearModule(a, b), ELUModule()))
    self.blocks.append((LinearModule(dims[-1], n_classes), SoftMaxModule()))

  def parameters(self):
    """yields all (params, grads, key)"""
    for lin, _ in self.blocks:
      for key in ('weight', 'bias'):
        yield lin.params, lin.grads, key

  def forward(self, x):
    for lin, act in self.blocks:
      x = act.forward(lin.forward(x))
    return x

  def backward(self, dout):
    for lin, act in self.blocks[::-1]:
      dout = lin.backward(act.backward(dout))
