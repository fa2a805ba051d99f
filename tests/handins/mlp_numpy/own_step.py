from modules import *


class MLP(object):
    """ Multi-layer perceptron which also knows how to do a step of SGD """

    def __init__(self, n_inputs, n_hidden, n_classes):
        self.n_layers = len(n_hidden)
        self.hidden = []
        self.elus = []

        n_in = n_inputs
        for n_out in n_hidden:
            self.hidden += [LinearModule(n_in, n_out)]
            self.elus += [ELUModule()]
            n_in = n_out

        self.output = LinearModule(n_in, n_classes)
        self.softmax = SoftMaxModule()

    def forward(self, x):
        for i in range(self.n_layers):
            x = self.hidden[i].forward(x)
            x = self.elus[i].forward(x)
        x = self.output.forward(x)
        out = self.softmax.forward(x)
        return out

    def backward(self, dout):
        # last layer first
        dout = self.softmax.backward(dout)
        dout = self.output.backward(dout)
        # and then back through the hidden layers
        for i in reversed(range(self.n_layers)):
            dout = self.elus[i].backward(dout)
            dout = self.hidden[i].backward(dout)
        return

    def step(self, learning_rate):
        for module in self.hidden + [self.output]:
            for name in module.params:
                module.params[name] = module.params[name] - learning_rate * module.grads[name]
