import torch
import torch.nn as nn
import torch.nn.functional as F


class MLP(nn.Module):
    def __init__(self, n_inputs, n_hidden, n_classes):
        super().__init__()
        sizes = [n_inputs] + n_hidden + [n_classes]
        self.linears = nn.ModuleList([nn.Linear(i, o) for i, o in zip(sizes, sizes[1:])])

        # same initialisation as in the numpy version
        for linear in self.linears:
            nn.init.normal_(linear.weight, mean=0.0, std=0.0001)
            nn.init.zeros_(linear.bias)

    def forward(self, x):
        x = x.view(x.shape[0], -1)
        for linear in self.linears[:-1]:
            x = F.elu(linear(x))
        return self.linears[-1](x)
