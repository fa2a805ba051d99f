"""An MNIST epoch of `train_mlp_autodiff.py`'s net on our autodiff beside the same net in eager PyTorch, float32.

Both take the same batches from the same `DataSet`, by turns, epoch after epoch, from the same weights; a step is
batch, forward, loss, backward and the update of plain gradient descent. Without MNIST in $MNIST_DIR or ./mnist the
pixels are random, which costs the same.
"""

from __future__ import annotations

import os
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F

from benchmarks.profiles import by_function
from benchmarks.rows import Row, row
from benchmarks.timing import by_turns, numpy_gemm
from cifar10_utils import DataError, DataSet
from imagefiles.mnist import get_mnist
from train_mlp_autodiff import OneHiddenLayer, train_step

BATCH, D, H, C, RATE = 32, 784, 300, 10, 0.05


def mnist_or_noise() -> tuple[np.ndarray, np.ndarray, str]:
    """Pixels and labels of the 55,000 training images, and what they are."""
    try:
        train = get_mnist(os.environ.get("MNIST_DIR", "./mnist"), one_hot=False, validation_size=5000,
                          download=False).train
        return train.pixels, train.labels, "MNIST"
    except DataError:
        rng = np.random.default_rng(0)
        return rng.integers(0, 256, (55_000, 1, 28, 28), np.uint8), rng.integers(0, 10, 55_000), "random pixels"


def numpy_epoch(train: DataSet, model: OneHiddenLayer) -> Callable[[], None]:
    def epoch() -> None:
        for _ in range(train.num_examples // BATCH):
            train_step(model, *train.next_batch(BATCH), RATE)  # counts what is right besides: PyTorch need not

    return epoch


def torch_epoch(train: DataSet, model: OneHiddenLayer) -> Callable[[], None]:
    activation = torch.nn.ReLU() if model.activation == "relu" else torch.nn.Sigmoid()
    net = torch.nn.Sequential(torch.nn.Linear(D, H), activation, torch.nn.Linear(H, C))
    with torch.no_grad():
        for ours, theirs in zip(model.parameters, net.parameters(), strict=True):
            theirs.copy_(torch.from_numpy(ours.value.T.copy()))
    optimizer = torch.optim.SGD(net.parameters(), RATE)

    def epoch() -> None:
        for _ in range(train.num_examples // BATCH):
            x, y = train.next_batch(BATCH)
            loss = F.cross_entropy(net(torch.from_numpy(x.reshape(len(x), -1))), torch.from_numpy(y))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            loss.item()

    return epoch


def rows(quick: bool) -> list[Row]:
    pixels, labels, what = mnist_or_noise()
    number = 640 if quick else len(pixels)

    def split() -> DataSet:  # one for each side, so that each has its own order
        return DataSet(pixels[:number], labels[:number], pixels.mean(0, np.float32), scale=1 / 255)

    flops = 2 * number * (2 * D * H + 3 * H * C)
    found = []
    for activation in ("sigmoid", "relu"):
        model = OneHiddenLayer(D, H, C, activation, np.random.default_rng(0))
        theirs, ours = torch_epoch(split(), model), numpy_epoch(split(), model)
        seconds = by_turns({"ours": ours, "plain PyTorch": theirs, "sgemm": numpy_gemm(flops)}, 1 if quick else 7)
        found.append(row("Autodiff epoch", f"{D}-{H}-{C}, {activation}, batch {BATCH}, {number} images ({what})",
                         seconds, "ours", "plain PyTorch", "sgemm", reference_goal=1.0, profile=by_function(ours)))
    return found
