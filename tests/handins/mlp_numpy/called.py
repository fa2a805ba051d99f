from modules import LinearModule, ELUModule, SoftMaxModule


class MLP(object):
    def __init__(self, n_inputs, n_hidden, n_classes):
        def build(n_in, rest):
            """Recursively: a hidden layer, then what follows it."""
            if not rest:
                return [LinearModule(n_in, n_classes), SoftMaxModule()]
            return [LinearModule(n_in, rest[0]), ELUModule()] + build(rest[0], rest[1:])
        self.layers = build(n_inputs, list(n_hidden))

    def __iter__(self):
        return iter(self.layers)

    def forward(self, x):
        for layer in self:
            x = layer(x)
        return x

    __call__ = forward

    def backward(self, dout):
        for layer in reversed(self.layers):
            dout = layer.backward(dout)
