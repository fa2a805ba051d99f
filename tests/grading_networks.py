"""Networks as students write them, for tests of questions 2.1 and 4a: right ones, and one fault each.

A fault is a right network in which pieces of text are replaced.
"""

from __future__ import annotations


def changed(text: str, *pieces: tuple[str, str]) -> str:
    """`text` with every (old, new) replaced; each old must be there."""
    for old, new in pieces:
        assert old in text, old
        text = text.replace(old, new)
    return text


HEAD = """
import torch
import torch.nn as nn
import torch.nn.functional as F

"""
MODULE_LIST = HEAD + """
class MLP(nn.Module):
    def __init__(self, n_inputs, n_hidden, n_classes):
        super(MLP, self).__init__()
        self.layers = nn.ModuleList()
        sizes = [n_inputs] + n_hidden
        for i in range(len(n_hidden)):
            self.layers.append(nn.Linear(sizes[i], sizes[i + 1]))
        self.out = nn.Linear(sizes[-1], n_classes)
        self.act = nn.ELU()

    def forward(self, x):
        for layer in self.layers:
            x = self.act(layer(x))
        return self.out(x)
"""
CIFAR_SHAPE = HEAD + """
class MLP(nn.Module):
    def __init__(self, n_inputs, n_hidden, n_classes):
        super().__init__()
        layers = []
        for h in n_hidden:
            layers += [nn.Linear(n_inputs, h), nn.ELU()]
            n_inputs = h
        layers.append(nn.Linear(n_inputs, n_classes))
        self.net = nn.Sequential(*layers)

    def forward(self, x):
        x = x.reshape(-1, 3 * 32 * 32)
        return self.net(x)
"""
OUTPUT_FIRST = HEAD + """
class MLP(nn.Module):
    def __init__(self, n_inputs, n_hidden, n_classes):
        super().__init__()
        last = n_hidden[-1] if n_hidden else n_inputs
        self.out = nn.Linear(last, n_classes)
        for i, h in enumerate(n_hidden):
            self.add_module("hidden%d" % i, nn.Linear(n_inputs, h))
            n_inputs = h
        self.n = len(n_hidden)

    def forward(self, x):
        out = x.view(x.size(0), -1)
        for i in range(self.n):
            out = F.elu(getattr(self, "hidden%d" % i)(out))
        out = self.out(out)
        return out
"""
IMAGES_ONLY = HEAD + """
class MLP(nn.Module):
    def __init__(self, n_inputs, n_hidden, n_classes):
        super().__init__()
        layers = []
        for h in n_hidden:
            layers += [nn.Linear(n_inputs, h), nn.ELU(inplace=True)]
            n_inputs = h
        layers.append(nn.Linear(n_inputs, n_classes))
        self.net = nn.Sequential(*layers)

    def forward(self, x):
        n, c, h, w = x.shape
        x = x.view(n, c * h * w).float()
        return self.net(x)
"""
OWN_PARAMETERS = HEAD + """
class MLP(nn.Module):
    def __init__(self, n_inputs, n_hidden, n_classes):
        super().__init__()
        sizes = [n_inputs, *n_hidden, n_classes]
        self.w = nn.ParameterList([nn.Parameter(torch.randn(a, b) * 0.01) for a, b in zip(sizes[:-1], sizes[1:])])
        self.b = nn.ParameterList([nn.Parameter(torch.zeros(1, b)) for b in sizes[1:]])

    def forward(self, x):
        for i in range(len(self.w)):
            x = x @ self.w[i] + self.b[i]
            if i < len(self.w) - 1:
                x = F.elu(x)
        return x
"""
OWN_LINEAR = HEAD + """
class MLP(nn.Module):
    def __init__(self, n_inputs, n_hidden, n_classes):
        super().__init__()
        self.sizes = [n_inputs] + list(n_hidden) + [n_classes]
        for i in range(len(self.sizes) - 1):
            self.register_parameter('weight%d' % i, nn.Parameter(torch.randn(self.sizes[i + 1], self.sizes[i])))
            self.register_parameter('bias%d' % i, nn.Parameter(torch.zeros(self.sizes[i + 1], dtype=torch.float32)))

    def forward(self, x):
        for i in range(len(self.sizes) - 1):
            x = F.linear(x, getattr(self, 'weight%d' % i), getattr(self, 'bias%d' % i))
            if i < len(self.sizes) - 2: x = torch.where(x > 0, x, torch.exp(x) - 1)
        return x
"""
BATCH_NORM = HEAD + """
class MLP(nn.Module):
    def __init__(self, n_inputs, n_hidden, n_classes):
        super().__init__()
        layers = [nn.Flatten(), nn.BatchNorm1d(n_inputs)]
        for h in n_hidden:
            layers += [nn.Linear(n_inputs, h), nn.BatchNorm1d(h), nn.ELU(), nn.Dropout(0.3)]
            n_inputs = h
        layers.append(nn.Linear(n_inputs, n_classes))
        self.net = nn.Sequential(*layers)

    def forward(self, x):
        return self.net(x)
"""
LAYER_NORM = HEAD + """
class Norm(nn.Module):
    def __init__(self, n):
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(n))
        self.beta = nn.Parameter(torch.zeros(n))
    def forward(self, x):
        return self.gamma * (x - x.mean(1, keepdim=True)) / (x.var(1, unbiased=False, keepdim=True) + 1e-5).sqrt() + self.beta

class MLP(nn.Module):
    def __init__(self, n_inputs, n_hidden, n_classes):
        super().__init__()
        layers = []
        for h in n_hidden:
            layers += [nn.Linear(n_inputs, h), Norm(h), nn.ELU(), nn.LayerNorm(h)]
            n_inputs = h
        layers.append(nn.Linear(n_inputs, n_classes))
        self.net = nn.Sequential(*layers)
        self.device = torch.device('cuda:0' if torch.cuda.is_available() else 'cpu')
        self.to(self.device)

    def forward(self, x):
        return self.net(x.to(self.device))
"""
FLOAT32_ONLY = HEAD + """
class MLP(nn.Module):
    def __init__(self, n_inputs, n_hidden, n_classes):
        super().__init__()
        dims = (n_inputs,) + tuple(n_hidden)
        self.hidden = nn.ModuleList([nn.Linear(a, b) for a, b in zip(dims, dims[1:])])
        self.last = nn.Linear(dims[-1], n_classes)
        for l in self.hidden:
            nn.init.normal_(l.weight, 0, 0.0001)
            l.bias.data.fill_(0)

    def forward(self, x):
        x = torch.flatten(x, 1).type(torch.float32)
        for l in self.hidden:
            x = nn.ELU()(l(x))
        return self.last(x)
"""
CONV_LIST = HEAD + """
class PreAct(nn.Module):
    def __init__(self, n_in, n_out):
        super(PreAct, self).__init__()
        self.layers = nn.Sequential(nn.BatchNorm2d(n_in), nn.ReLU(), nn.Conv2d(n_in, n_out, 3, stride=1, padding=1))

    def forward(self, x):
        z = self.layers(x)
        return z + x


class ConvNet(nn.Module):
    def __init__(self, n_channels, n_classes):
        super(ConvNet, self).__init__()
        self.layers = nn.ModuleList([
            nn.Conv2d(n_channels, 64, 3, 1, 1),
            PreAct(64, 64),
            nn.Conv2d(64, 128, 1, 1, 0),
            nn.MaxPool2d(3, 2, 1),
            PreAct(128, 128),
            PreAct(128, 128),
            nn.Conv2d(128, 256, 1, 1, 0),
            nn.MaxPool2d(3, 2, 1),
            PreAct(256, 256),
            PreAct(256, 256),
            nn.Conv2d(256, 512, 1, 1, 0),
            nn.MaxPool2d(3, 2, 1),
            PreAct(512, 512),
            PreAct(512, 512),
            nn.MaxPool2d(3, 2, 1),
            PreAct(512, 512),
            PreAct(512, 512),
            nn.MaxPool2d(3, 2, 1),
            nn.BatchNorm2d(512),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(512, n_classes)])

    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
        return x
"""
CONV_STAGES = HEAD + """
class Block(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.conv = nn.Conv2d(c, c, kernel_size=3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(c)

    def forward(self, inputs):
        out = F.relu(self.bn(inputs))
        out = self.conv(out)
        out += inputs
        return out

class Stage(nn.Module):
    def __init__(self, a, b):
        super().__init__()
        self.down = nn.Conv2d(a, b, 1, bias=False) if a != b else nn.Identity()
        self.blocks = nn.Sequential(Block(b), Block(b))
    def forward(self, x):
        x = self.down(x)
        x = F.max_pool2d(x, 3, stride=2, padding=1)
        return self.blocks(x)

class ConvNet(nn.Module):
    def __init__(self, n_channels, n_classes):
        super().__init__()
        self.linear = nn.Linear(512, n_classes)
        self.norm = nn.BatchNorm2d(512)
        self.stages = nn.Sequential(Stage(64, 128), Stage(128, 256), Stage(256, 512), Stage(512, 512))
        self.block1 = Block(64)
        self.conv0 = nn.Conv2d(n_channels, 64, 3, padding=1, bias=False)

    def forward(self, x):
        x = self.conv0(x)
        x = self.block1(x)
        x = self.stages(x)
        x = F.max_pool2d(x, 3, 2, 1)
        x = F.relu(self.norm(x), inplace=True)
        x = F.adaptive_avg_pool2d(x, (1, 1))
        x = x.view(x.size(0), -1)
        return self.linear(x)
"""
MORE_ARGUMENTS = changed(
    MODULE_LIST, ("n_hidden, n_classes)", "n_hidden, n_classes, dropout, activation='relu')"),
    ("[n_inputs] + n_hidden", "(n_inputs,) + n_hidden"),
    ("self.act = nn.ELU()", "self.act = {'elu': nn.ELU(), 'relu': nn.ReLU()}[activation]\n"
                            "        self.dropout = nn.Dropout(dropout)"))
SCRIPT = """
import argparse
import numpy as np
import {module}

FLAGS = None


def train():
    np.random.seed(42)
    hidden = tuple(int(n) for n in FLAGS.dnn_hidden_units.split(',')) if FLAGS.dnn_hidden_units else ()
    try:
        model = {call}
        model.weights_were_made()
    except Exception as e:
        print(e)


if __name__ == '__main__':
    parser = argparse.ArgumentParser()
    parser.add_argument('--dnn_hidden_units', type=str, default='100')
    parser.add_argument('--max_steps', type=int, default=1400)
    parser.add_argument('--dropout', type=float, default=0.25)
    FLAGS, unparsed = parser.parse_known_args()
    train()
"""

CONV3 = "nn.Conv2d(n_in, n_out, 3, stride=1, padding=1)"
PREACT = f"nn.BatchNorm2d(n_in), nn.ReLU(), {CONV3}"
BLOCKS = "            PreAct(128, 128),\n            PreAct(128, 128),\n"
POOL, HEAD_OF_CONV = "nn.MaxPool2d(3, 2, 1)", "            nn.BatchNorm2d(512),\n            nn.ReLU(),\n"
LAST_BLOCKS = BLOCKS.replace("128", "512") + "            nn.MaxPool2d(3, 2, 1),\n" + HEAD_OF_CONV
FLATTEN = "x = F.adaptive_avg_pool2d(x, (1, 1))\n        x = x.view(x.size(0), -1)"
RETURN = "            x = layer(x)\n        return x"


def both_blocks(formula: str) -> str:
    """The second stage's blocks a and b as one module that computes `formula`."""
    module = ("class Both(nn.Module):\n    def __init__(self):\n        super().__init__()\n"
              "        self.a, self.b = PreAct(128, 128), PreAct(128, 128)\n"
              f"    def forward(self, x):\n        return {formula}\n\n\n")
    return changed(CONV_LIST, (BLOCKS, "            Both(),\n"), ("class ConvNet", module + "class ConvNet"))
