"""
MLP from named attributes: self.linear0, self.elu0, self.linear1, ...
"""
from modules import *


class MLP(object):
    def __init__(self, n_inputs, n_hidden, n_classes):
        self.depth = len(n_hidden)
        units = [n_inputs] + n_hidden
        for k in range(self.depth):
            setattr(self, 'linear%d' % k, LinearModule(units[k], units[k + 1]))
            setattr(self, 'elu%d' % k, ELUModule())
        self.linear_out = LinearModule(units[-1], n_classes)
        self.softmax_out = SoftMaxModule()

    def forward(self, x):
        self.h = [x]  # outputs of all layers
        for k in range(self.depth):
            z = getattr(self, 'linear%d' % k).forward(self.h[-1])
            self.h.append(getattr(self, 'elu%d' % k).forward(z))
        logits = self.linear_out.forward(self.h[-1])
        return self.softmax_out.forward(logits)

    def backward(self, dout):
        d_logits = self.softmax_out.backward(dout)
        d_h = self.linear_out.backward(d_logits)
        k = self.depth - 1
        while k >= 0:
            d_z = getattr(self, 'elu%d' % k).backward(d_h)
            d_h = getattr(self, 'linear%d' % k).backward(d_z)
            k -= 1
