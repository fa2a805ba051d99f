"""
This module implements the building blocks of the NumPy network
"""
from __future__ import absolute_import
from __future__ import division
from __future__ import print_function

import numpy as np


class LinearModule(object):
  """
  Linear module. The weight is stored as (in_features, out_features), so no transpose in forward.
  """
  def __init__(self, in_features, out_features):
    W = 0.0001 * np.random.randn(in_features, out_features)
    b = np.zeros((1, out_features))
    self.params = {'weight': W, 'bias': b}
    self.grads = {'weight': np.zeros(W.shape), 'bias': np.zeros(b.shape)}

  def forward(self, x):
    self.x = x
    out = np.matmul(x, self.params['weight']) + self.params['bias']
    return out

  def backward(self, dout):
    dW = np.matmul(self.x.T, dout)
    db = np.sum(dout, axis=0, keepdims=True)
    dx = np.matmul(dout, self.params['weight'].T)

    self.grads['weight'] = dW
    self.grads['bias'] = db
    return dx


class SoftMaxModule(object):
  """
  Softmax activation module.
  """
  def forward(self, x):
    # max trick
    x_max = x.max(axis=1)[:, None]
    y = np.exp(x - x_max)
    out = y / y.sum(axis=1)[:, None]
    self.saved = out
    return out

  def backward(self, dout):
    y = self.saved
    n = y.shape[1]
    jacobian = y[:, :, None] * (np.eye(n)[None, :, :] - y[:, None, :])
    dx = np.matmul(dout[:, None, :], jacobian)[:, 0, :]
    return dx


class CrossEntropyModule(object):
  """
  Cross entropy loss module.
  """
  def forward(self, x, y):
    x = np.clip(x, 1e-15, 1.0)
    loss_per_sample = -np.sum(y * np.log(x), axis=1)
    out = np.mean(loss_per_sample)
    return out

  def backward(self, x, y):
    S = len(x)
    x = np.clip(x, 1e-15, 1.0)
    dx = -1.0 / S * np.divide(y, x)
    return dx


class ELUModule(object):
  """
  ELU activation module.
  """
  def forward(self, x):
    out = x.copy()
    neg = x <= 0
    out[neg] = np.exp(x[neg]) - 1
    # derivative is kept for the backward pass
    self.deriv = np.ones_like(x)
    self.deriv[neg] = np.exp(x[neg])
    return out

  def backward(self, dout):
    dx = dout * self.deriv
    return dx
