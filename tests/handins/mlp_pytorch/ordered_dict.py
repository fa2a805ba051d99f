from collections import OrderedDict

import torch
from torch import nn


class MLP(nn.Module):
    def __init__(self, n_inputs, n_hidden, n_classes):
        super(MLP, self).__init__()
        modules = OrderedDict()
        modules['flatten'] = nn.Flatten()
        fan_in = n_inputs
        for nr, fan_out in enumerate(n_hidden, start=1):
            modules['linear%d' % nr] = nn.Linear(fan_in, fan_out)
            modules['elu%d' % nr] = nn.ELU(inplace=True)
            fan_in = fan_out
        modules['classifier'] = nn.Linear(fan_in, n_classes)
        self.model = nn.Sequential(modules)
        self.model.apply(self.init_weights)

    @staticmethod
    def init_weights(m):
        if type(m) == nn.Linear:
            torch.nn.init.xavier_normal_(m.weight, gain=0.1)  # the pixels are large
            m.bias.data.fill_(0.0)

    def forward(self, x):
        return self.model(x)
