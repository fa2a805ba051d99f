"""
An MLP that is a layer and a smaller MLP.
"""
from modules import *


class MLP(object):
    def __init__(self, n_inputs, n_hidden, n_classes):
        last = len(n_hidden) == 0
        self.linear = LinearModule(n_inputs, n_classes if last else n_hidden[0])
        self.activation = SoftMaxModule() if last else ELUModule()
        self.rest = None if last else MLP(n_hidden[0], n_hidden[1:], n_classes)

    def forward(self, x):
        out = self.activation.forward(self.linear.forward(x))
        return out if self.rest is None else self.rest.forward(out)

    def backward(self, dout):
        if self.rest is not None:
            dout = self.rest.backward(dout)
        return self.linear.backward(self.activation.backward(dout))

    def step(self, lr):
        for name in self.linear.params:
            self.linear.params[name] = self.linear.params[name] - lr * self.linear.grads[name].reshape(
                self.linear.params[name].shape)
        if self.rest is not None:
            self.rest.step(lr)
