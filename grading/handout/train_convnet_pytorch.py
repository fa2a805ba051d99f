"""Train the ConvNet (question 4a).

    python train_convnet_pytorch.py                                       # the defaults
    python train_convnet_pytorch.py --max_steps 200 --eval_freq 100
"""

from __future__ import annotations

import argparse
from typing import Any

import torch
from torch import nn

import cifar10_utils
from convnet_pytorch import ConvNet


def accuracy(predictions: Any, targets: Any) -> float:
    """Fraction of the samples that are predicted right.

    predictions: scores or logits of shape (B, 10). targets: one-hot, of shape (B, 10), or class indices, of shape (B,).
    """
    raise NotImplementedError


def train(flags: argparse.Namespace) -> None:
    """Train the network on the training split by Adam.

    Evaluate it on the whole test split every `flags.eval_freq` steps, and after the last one. Draw the curves of loss
    and accuracy for your report.

    flags: learning_rate, max_steps, batch_size, eval_freq, data_dir, as in `main`.
    """
    raise NotImplementedError


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--learning_rate", type=float, default=1e-4, help="step size (default: 1e-4)")
    parser.add_argument("--max_steps", type=int, default=5000, help="number of training steps (default: 5000)")
    parser.add_argument("--batch_size", type=int, default=32, help="images per training step (default: 32)")
    parser.add_argument("--eval_freq", type=int, default=500,
                        help="evaluate on the test split every so many steps (default: 500)")
    parser.add_argument("--data_dir", default="./cifar10/cifar-10-batches-py", help="folder of CIFAR-10's files")
    flags = parser.parse_args()
    for name, value in vars(flags).items():
        print(f"{name}: {value}")
    train(flags)


if __name__ == "__main__":
    main()
