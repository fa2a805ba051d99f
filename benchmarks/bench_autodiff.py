"""An MNIST epoch of `train_mlp_autodiff.py`'s net on our autodiff beside the same net in eager PyTorch, float32.

    python -m benchmarks.bench_autodiff [--data_dir ./mnist] [--rounds 7]

Both take the same batches from the same `DataSet`, by turns, epoch after epoch, from the same weights; a step is
batch, forward, loss, backward and the update of plain gradient descent. Without MNIST in the folder the pixels are
random, which costs the same. The last lines are resident memory around an epoch with the garbage collector off.
"""

from __future__ import annotations

import argparse
import gc
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from benchmarks.timing import by_turns, ratio, spread
from cifar10_utils import DataError, DataSet
from mnist_utils import get_mnist
from train_mlp_autodiff import OneHiddenLayer, train_step

RATE = 0.05


def mnist_or_noise(data_dir: str) -> tuple[Callable[[], DataSet], str]:
    """Makes a training split of 55,000 images, anew on each call so that each side has an order of its own."""
    try:
        get_mnist(data_dir, one_hot=False, validation_size=5000, download=False)
        return lambda: get_mnist(data_dir, one_hot=False, validation_size=5000, download=False).train, "MNIST"
    except DataError:
        rng = np.random.default_rng(0)
        pixels = rng.integers(0, 256, (55_000, 1, 28, 28), np.uint8)
        labels = rng.integers(0, 10, 55_000)
        return lambda: DataSet(pixels, labels, pixels.mean(0, np.float32), scale=1 / 255), "random pixels"


def numpy_epoch(train: DataSet, model: OneHiddenLayer, batch_size: int) -> Callable[[], None]:
    def epoch() -> None:
        for _ in range(train.num_examples // batch_size):
            train_step(model, *train.next_batch(batch_size), RATE)  # counts what is right besides: PyTorch need not

    return epoch


def torch_epoch(train: DataSet, model: OneHiddenLayer, batch_size: int) -> Callable[[], None]:
    hidden = model.w1.shape[1]
    activation = torch.nn.ReLU() if model.activation == "relu" else torch.nn.Sigmoid()
    net = torch.nn.Sequential(torch.nn.Linear(784, hidden), activation, torch.nn.Linear(hidden, 10))
    with torch.no_grad():
        for ours, theirs in zip(model.parameters, net.parameters(), strict=True):
            theirs.copy_(torch.from_numpy(ours.value.T.copy()))
    optimizer = torch.optim.SGD(net.parameters(), RATE)

    def epoch() -> None:
        for _ in range(train.num_examples // batch_size):
            x, y = train.next_batch(batch_size)
            loss = F.cross_entropy(net(torch.from_numpy(x.reshape(len(x), -1))), torch.from_numpy(y))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            loss.item()

    return epoch


def resident_mb() -> float:
    """Resident memory of this process now, in MB; not a number where /proc does not tell."""
    path = Path("/proc/self/statm")
    return int(path.read_text().split()[1]) * 4096 / 2**20 if path.exists() else float("nan")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data_dir", default=os.environ.get("MNIST_DIR", "./mnist"),
                        help="folder of MNIST's files (default: $MNIST_DIR, else ./mnist)")
    parser.add_argument("--rounds", type=int, default=7, help="epochs measured on each side (default: 7)")
    parser.add_argument("--batch_size", type=int, default=32, help="images per step (default: 32)")
    parser.add_argument("--dnn_hidden_units", type=int, default=300, help="hidden units (default: 300)")
    arguments = parser.parse_args()
    batch, hidden = arguments.batch_size, arguments.dnn_hidden_units
    make_train, name = mnist_or_noise(arguments.data_dir)
    print(f"784-{hidden}-10, batch {batch}, 55,000 images ({name}), float32, {torch.get_num_threads()} threads")
    for activation in ("sigmoid", "relu"):
        model = OneHiddenLayer(784, hidden, 10, activation, np.random.default_rng(0))
        theirs = torch_epoch(make_train(), model, batch)
        ours = numpy_epoch(make_train(), model, batch)
        seconds = by_turns({"autodiff": ours, "PyTorch": theirs}, arguments.rounds)
        for side, values in seconds.items():
            print(f"{activation:8s} epoch, {side:9s} {spread(values, 's')}")
        print(f"{activation:8s} epoch, autodiff / PyTorch  {spread(ratio(seconds, 'autodiff', 'PyTorch'))}"
              "   (goal <= 1.0)")
        gc.collect()
        gc.disable()
        before = resident_mb()
        ours()
        print(f"{activation:8s} resident memory before and after an epoch: {before:.1f} MB, {resident_mb():.1f} MB")
        gc.enable()
