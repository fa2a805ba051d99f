"""Building blocks for mlp_numpy.py"""
import numpy as np


def one_over_batch(x):
    return 1.0 / x.shape[0]


class Module(object):
    """All modules keep what they need for backward in self.cache"""

    def __init__(self):
        self.cache = None

    def __call__(self, *args):
        return self.forward(*args)


class LinearModule(Module):
    def __init__(self, in_features, out_features):
        super(LinearModule, self).__init__()
        rng = np.random
        self.params = {
            'weight': rng.normal(size=(in_features, out_features)) * 0.0001,
            'bias': np.zeros(out_features),
        }
        self.grads = {
            'weight': np.zeros((in_features, out_features)),
            'bias': np.zeros(out_features),
        }

    def forward(self, x):
        self.cache = x
        return x @ self.params['weight'] + self.params['bias'][None, :]

    def backward(self, dout):
        x = self.cache
        self.grads['weight'] = np.einsum('si,so->io', x, dout)
        self.grads['bias'] = np.einsum('so->o', dout)
        return np.einsum('so,io->si', dout, self.params['weight'])


class SoftMaxModule(Module):
    def forward(self, x):
        exp_x = np.exp(x - np.amax(x, 1, keepdims=True))
        self.cache = exp_x / np.sum(exp_x, 1, keepdims=True)
        return self.cache

    def backward(self, dout):
        s = self.cache
        # batched version of diag(s) - s s^T
        jac = -np.matmul(s[:, :, np.newaxis], s[:, np.newaxis, :])
        idx = np.arange(s.shape[1])
        jac[:, idx, idx] += s
        return np.matmul(jac, dout[:, :, np.newaxis])[:, :, 0]


class CrossEntropyModule(Module):
    def forward(self, x, y):
        return -one_over_batch(x) * np.sum(y * np.log(np.maximum(x, 1e-300)))

    def backward(self, x, y):
        return -one_over_batch(x) * y / np.maximum(x, 1e-300)


class ELUModule(Module):
    def forward(self, x):
        self.cache = x
        return np.maximum(x, 0) + np.exp(np.minimum(x, 0)) - 1

    def backward(self, dout):
        # exp(min(x, 0)) is 1 for positive x
        return dout * np.exp(np.minimum(self.cache, 0))
