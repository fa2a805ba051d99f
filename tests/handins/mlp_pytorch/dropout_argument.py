import torch.nn as nn


def block(n_in, n_out, p, use_bn):
    parts = [nn.Linear(n_in, n_out)]
    if use_bn:
        parts.append(nn.BatchNorm1d(n_out))
    parts.append(nn.ELU())
    if p > 0:
        parts.append(nn.Dropout(p))
    return nn.Sequential(*parts)


class MLP(nn.Module):
    def __init__(self, n_inputs, n_hidden, n_classes, dropout, use_bn):
        """
        dropout: probability of dropping a hidden unit
        use_bn: BatchNorm before each ELU
        """
        super(MLP, self).__init__()
        dims = [n_inputs] + n_hidden
        blocks = [block(dims[i], dims[i + 1], dropout, use_bn) for i in range(len(n_hidden))]
        self.features = nn.Sequential(*blocks)
        self.classifier = nn.Linear(dims[-1], n_classes)

    def forward(self, x):
        x = x.reshape(x.size(0), -1)
        return self.classifier(self.features(x))
