"""Evaluation of a split: loss and accuracy of every image, in NumPy and in PyTorch.

The plain ways hold the split as bytes too and take it in batches of the same size. The MLPs' limit is the first layer
alone, nearly all of the work: the bytes as float32 and their matrix product, into memory that is there already. The
ConvNet's is its floating-point operations at the rate of a product of square matrices.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import train_mlp_numpy
from benchmarks.bench_convnet import PLAIN
from benchmarks.bench_data import cifar10_folder
from benchmarks.profiles import by_function, by_operator
from benchmarks.rows import Row, row
from benchmarks.timing import Function, by_turns, torch_gemm
from cifar10_utils import DataSet, get_cifar10
from convnet_pytorch import ConvNet
from mlp_numpy import MLP
from mlp_pytorch import MLP as TorchMLP
from training import trainer as training_pytorch

D, H, C = 3072, 100, 10
NUMPY_BATCH, TORCH_BATCH = train_mlp_numpy.EVALUATION_BATCH, 500
CPU = torch.device("cpu")


def plain_numpy(model: MLP, split: DataSet) -> Function:
    (w1, b1), (w2, b2) = ((layer.params["weight"], layer.params["bias"]) for layer in model.layers[::2])

    def evaluate() -> tuple[float, float]:
        loss = right = 0.0
        for start in range(0, len(split.pixels), NUMPY_BATCH):
            x = (split.pixels[start : start + NUMPY_BATCH] - split.mean).reshape(-1, D)
            y = split.labels[start : start + NUMPY_BATCH]
            hidden = x @ w1.T + b1
            logits = np.where(hidden > 0, hidden, np.expm1(np.minimum(hidden, 0))) @ w2.T + b2
            logits -= logits.max(1, keepdims=True)
            loss -= float((y * (logits - np.log(np.exp(logits).sum(1, keepdims=True)))).sum())
            right += float((logits.argmax(1) == y.argmax(1)).sum())
        return loss / len(split.pixels), right / len(split.pixels)

    return evaluate


def plain_torch(net: nn.Module, split: DataSet, flat: bool) -> Function:
    net.eval()

    def evaluate() -> tuple[float, float]:
        loss = right = 0.0
        with torch.inference_mode():
            for start in range(0, len(split.pixels), TORCH_BATCH):
                x = torch.from_numpy(split.pixels[start : start + TORCH_BATCH] - split.mean)
                y = torch.from_numpy(split.labels[start : start + TORCH_BATCH])
                logits = net(x.flatten(1) if flat else x)
                loss += F.cross_entropy(logits, y, reduction="sum").item()
                right += (logits.argmax(1) == y).sum().item()
        return loss / len(split.pixels), right / len(split.pixels)

    return evaluate


def first_layer(split: DataSet) -> Function:
    weight = np.random.default_rng(0).standard_normal((H, D), np.float32)
    x, out = np.empty((NUMPY_BATCH, D), np.float32), np.empty((NUMPY_BATCH, H), np.float32)

    def multiply() -> None:
        for start in range(0, len(split.pixels), NUMPY_BATCH):
            pixels = split.pixels[start : start + NUMPY_BATCH].reshape(-1, D)
            np.copyto(x[: len(pixels)], pixels)
            np.matmul(x[: len(pixels)], weight.T, out=out[: len(pixels)])

    return multiply


def mlps(quick: bool) -> list[Row]:
    one_hot, indices = (get_cifar10(cifar10_folder(), one_hot=kind, download=False).test for kind in (True, False))
    model, net = MLP(D, [H], C), TorchMLP(D, [H], C).to(memory_format=torch.channels_last)
    plain = nn.Sequential(nn.Linear(D, H), nn.ELU(), nn.Linear(H, C))

    def numpys() -> object:
        return train_mlp_numpy.evaluate(model, one_hot)

    def torchs() -> object:
        return training_pytorch.evaluate(net, indices, CPU, batch_size=TORCH_BATCH)

    seconds = by_turns({"NumPy": numpys, "PyTorch": torchs, "plain NumPy": plain_numpy(model, one_hot),
                        "plain PyTorch": plain_torch(plain, indices, flat=True),
                        "the first layer": first_layer(one_hot)}, rounds=2 if quick else 15)
    setting = f"{D}-{H}-{C}, {one_hot.num_examples} images"
    return [row("Evaluation, NumPy MLP", setting, seconds, "NumPy", "plain NumPy", "the first layer",
                profile=by_function(numpys)),
            row("Evaluation, PyTorch MLP", setting, seconds, "PyTorch", "plain PyTorch", "the first layer",
                profile=by_operator(torchs))]


def convnet(quick: bool) -> Row:
    test = get_cifar10(cifar10_folder(), one_hot=False, download=False).test
    number = 4 if quick else 1000
    split = DataSet(test.pixels[:number], test.labels[:number], test.mean)
    net = ConvNet(3, 10)
    ours = ConvNet(3, 10).to(memory_format=torch.channels_last)
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        net(torch.zeros(2, 3, 32, 32))

    def evaluate() -> object:
        return training_pytorch.evaluate(ours, split, CPU, batch_size=TORCH_BATCH)

    gemm = torch_gemm(counter.get_total_flops() / 2 * number)
    seconds = by_turns({"ours": evaluate, PLAIN: plain_torch(net, split, flat=False), "sgemm of PyTorch": gemm},
                       rounds=1 if quick else 5)
    return row("Evaluation, ConvNet", f"{number} images, float32", seconds, "ours", PLAIN, "sgemm of PyTorch",
               profile=by_operator(evaluate))


def rows(quick: bool) -> list[Row]:
    return [*mlps(quick), convnet(quick)]
