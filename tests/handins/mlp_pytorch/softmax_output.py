import torch
import torch.nn as nn


class MLP(nn.Module):
    """Like in numpy: the last module is the softmax, forward gives probabilities."""

    def __init__(self, n_inputs, n_hidden, n_classes):
        super(MLP, self).__init__()
        self.net = nn.Sequential()
        prev = n_inputs
        for k, n in enumerate(n_hidden):
            self.net.add_module('fc%d' % k, nn.Linear(prev, n))
            self.net.add_module('elu%d' % k, nn.ELU())
            prev = n
        self.net.add_module('last', nn.Linear(prev, n_classes))
        self.net.add_module('softmax', nn.Softmax(dim=1))

        for p in self.parameters():
            if p.dim() > 1:
                nn.init.normal_(p, 0, 0.0001)
            else:
                nn.init.constant_(p, 0)

    def forward(self, x):
        return self.net(x)
