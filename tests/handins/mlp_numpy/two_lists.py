"""
MLP with the linear layers and the activations in lists of their own
"""
from modules import LinearModule, ELUModule, SoftMaxModule


class MLP(object):
    def __init__(self, n_inputs, n_hidden, n_classes):
        sizes = [n_inputs] + list(n_hidden) + [n_classes]
        self.linear_layers = [LinearModule(sizes[i], sizes[i + 1]) for i in range(len(sizes) - 1)]
        self.activations = [ELUModule() for _ in n_hidden]
        self.activations.append(SoftMaxModule())

    def forward(self, x):
        for linear, activation in zip(self.linear_layers, self.activations):
            x = activation.forward(linear.forward(x))
        return x

    def backward(self, dout):
        for i in range(len(self.linear_layers) - 1, -1, -1):
            dout = self.activations[i].backward(dout)
            dout = self.linear_layers[i].backward(dout)
        return dout
