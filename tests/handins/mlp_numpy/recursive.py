"""
An MLP whose layers are a chain: each knows the next one.
"""
from modules import *


class Layer(object):
    def __init__(self, n_in, n_out, activation):
        self.linear = LinearModule(n_in, n_out)
        self.activation = activation

    def forward(self, x):
        return self.activation.forward(self.linear.forward(x))

    def backward(self, dout):
        return self.linear.backward(self.activation.backward(dout))

    def step(self, lr):
        for name in self.linear.params:
            self.linear.params[name] = self.linear.params[name] - lr * self.linear.grads[name].reshape(
                self.linear.params[name].shape)


class MLP(object):
    def __init__(self, n_inputs, n_hidden, n_classes):
        widths = [n_inputs, *n_hidden]
        self.chain = [Layer(a, b, ELUModule()) for a, b in zip(widths, widths[1:])]
        self.chain.append(Layer(widths[-1], n_classes, SoftMaxModule()))

    def forward(self, x, i=0):
        if i == len(self.chain):
            return x
        return self.forward(self.chain[i].forward(x), i + 1)

    def backward(self, dout):
        for layer in self.chain[::-1]:
            dout = layer.backward(dout)
        return dout

    def step(self, lr):
        for layer in self.chain:
            layer.step(lr)
