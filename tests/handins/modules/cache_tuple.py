import numpy as np


class Module:
    """All of them keep what backward needs in self.cache."""
    cache = None

    def __repr__(self):
        return self.__class__.__name__


class LinearModule(Module):
    def __init__(self, in_features, out_features):
        shape = (out_features, in_features)
        self.params = dict(weight=1e-4 * np.random.standard_normal(shape), bias=np.zeros(out_features))
        self.grads = dict(weight=None, bias=None)

    def forward(self, x):
        self.cache = (x,)
        return np.einsum('si,oi->so', x, self.params['weight']) + self.params['bias'][np.newaxis]

    def backward(self, dout):
        x, = self.cache
        self.grads.update(weight=np.tensordot(dout, x, axes=(0, 0)), bias=np.add.reduce(dout, axis=0))
        return np.dot(dout, self.params['weight'])


class ELUModule(Module):
    def forward(self, x):
        y = np.maximum(x, 0) + np.expm1(np.minimum(x, 0))
        self.cache = (y,)
        return y

    def backward(self, dout):
        # for x < 0 the derivative is exp(x) = y + 1
        y, = self.cache
        return dout * np.minimum(y + 1, 1)


class SoftMaxModule(Module):
    def forward(self, x):
        shifted = x - x.max(1)[:, None]
        logits = shifted - np.log(np.exp(shifted).sum(1))[:, None]
        self.cache = (np.exp(logits),)
        return self.cache[0]

    def backward(self, dout):
        y, = self.cache
        return y * dout - y * np.einsum('sc,sc->s', y, dout)[:, None]


class CrossEntropyModule(Module):
    def forward(self, x, y):
        rows = np.arange(len(x))
        return -np.log(x[rows, y.argmax(1)] + 1e-12).mean()

    def backward(self, x, y):
        dx, rows, labels = np.zeros(x.shape), np.arange(len(x)), y.argmax(1)
        dx[rows, labels] = -1 / (x[rows, labels] + 1e-12)
        return dx / len(x)
