"""
Modules of the network: linear layer, ELU, softmax and cross entropy.
"""
import numpy as np


class LinearModule(object):
  """Linear layer, y = x W^T + b."""

  def __init__(self, in_features, out_features):
    """
    Weights from a normal distribution with std 0.0001, biases zero.
    """
    self.params = {'weight': np.random.normal(loc=0.0, scale=0.0001, size=(out_features, in_features)),
                   'bias': np.zeros((1, out_features))}
    self.grads = {'weight': np.zeros((out_features, in_features)),
                  'bias': np.zeros((1, out_features))}

  def forward(self, x):
    self.x = x  # needed in the backward pass
    out = x @ self.params['weight'].T + self.params['bias']
    return out

  def backward(self, dout):
    self.grads['weight'] = dout.T @ self.x
    self.grads['bias'] = np.ones((1, dout.shape[0])) @ dout
    dx = dout @ self.params['weight']
    return dx


class SoftMaxModule(object):

  def forward(self, x):
    # subtract the max of each row, exp does not overflow then
    b = np.max(x, axis=1, keepdims=True)
    e = np.exp(x - b)
    out = e / np.sum(e, axis=1, keepdims=True)
    self.y = out
    return out

  def backward(self, dout):
    s = np.sum(dout * self.y, axis=1, keepdims=True)
    dx = self.y * (dout - s)
    return dx


class CrossEntropyModule(object):

  def forward(self, x, y):
    """x: probabilities, y: one-hot labels. Mean over the batch."""
    out = -np.sum(y * np.log(x), axis=1).mean()
    return out

  def backward(self, x, y):
    dx = -(y / x) / x.shape[0]
    return dx


class ELUModule(object):

  def forward(self, x):
    self.x = x
    out = np.where(x > 0, x, np.exp(x) - 1)
    return out

  def backward(self, dout):
    dx = dout * np.where(self.x > 0, 1, np.exp(self.x))
    return dx
