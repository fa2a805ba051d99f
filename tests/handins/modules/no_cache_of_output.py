"""
Modules with a forward and a backward pass each. (assignment 1, q 1.2)
"""
import numpy as np

STD = 0.0001


class LinearModule(object):

  def __init__(self, in_features, out_features):
    self.params = {'weight': None, 'bias': None}
    self.grads = {'weight': None, 'bias': None}
    shape = (out_features, in_features)
    for key, size in zip(['weight', 'bias'], [shape, (1, out_features)]):
      self.params[key] = np.zeros(size)
      self.grads[key] = np.zeros(size)
    self.params['weight'] += np.random.normal(0, STD, shape)

  def forward(self, x):
    self.x = x
    W, b = self.params['weight'], self.params['bias']
    # B is the bias tiled S times
    B = np.tile(b, (x.shape[0], 1))
    return x @ W.T + B

  def backward(self, dout):
    self.grads['weight'][...] = dout.T @ self.x
    self.grads['bias'][...] = dout.sum(0)
    return dout @ self.params['weight']


class SoftMaxModule(object):

  def _softmax(self, x):
    m = np.max(x, axis=1).reshape(-1, 1)
    return np.exp(x - m) / np.exp(x - m).sum(axis=1).reshape(-1, 1)

  def forward(self, x):
    self.x = x
    return self._softmax(x)

  def backward(self, dout):
    Y = self._softmax(self.x)
    return Y * dout - Y * np.einsum('ij,ij->i', Y, dout)[:, np.newaxis]


class CrossEntropyModule(object):

  def forward(self, x, y):
    L_i = -np.einsum('ij,ij->i', y, np.log(x))
    return L_i.mean()

  def backward(self, x, y):
    S = y.shape[0]
    return -(1 / S) * y * (1 / x)


class ELUModule(object):

  def forward(self, x):
    self.x = x
    self.mask = x > 0
    return self.mask * x + ~self.mask * (np.exp(x * ~self.mask) - 1)

  def backward(self, dout):
    return dout * (self.mask + ~self.mask * np.exp(self.x * ~self.mask))
