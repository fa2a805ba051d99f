"""
Multi-layer perceptron in numpy.
"""
from modules import *


class MLP(object):
  """All modules of the network are in self.layers, in the order of the forward pass."""

  def __init__(self, n_inputs, n_hidden, n_classes):
    """
    n_inputs: number of inputs.
    n_hidden: list of ints, units of each hidden layer. Empty list: logistic regression.
    n_classes: number of classes
    """
    self.layers = []
    previous = n_inputs
    for n in n_hidden:
      self.layers.append(LinearModule(previous, n))
      self.layers.append(ELUModule())
      previous = n
    self.layers.append(LinearModule(previous, n_classes))
    self.layers.append(SoftMaxModule())

  def forward(self, x):
    out = x
    for layer in self.layers:
      out = layer.forward(out)
    return out

  def backward(self, dout):
    for layer in reversed(self.layers):
      dout = layer.backward(dout)
