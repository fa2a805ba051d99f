"""Train the NumPy MLP (question 1.2).

    python train_mlp_numpy.py                                       # the defaults
    python train_mlp_numpy.py --dnn_hidden_units 200,100 --max_steps 500
"""

from __future__ import annotations

import argparse
from typing import Any

import cifar10_utils
from mlp_numpy import MLP
from modules import CrossEntropyModule


def accuracy(predictions: Any, targets: Any) -> float:
    """Fraction of the samples that are predicted right.

    predictions: scores or probabilities of shape (B, 10). targets: one-hot, of shape (B, 10).
    """
    raise NotImplementedError


def train(flags: argparse.Namespace) -> None:
    """Train the network on the training split by mini-batch stochastic gradient descent, with NumPy alone.

    Evaluate it on the whole test split every `flags.eval_freq` steps, and after the last one. Draw the curves of loss
    and accuracy for your report.

    flags: dnn_hidden_units (a list), learning_rate, max_steps, batch_size, eval_freq, data_dir, as in `main`.
    """
    raise NotImplementedError


def widths(text: str) -> list[int]:
    """'200,100' -> [200, 100]; '' -> []."""
    return [int(width) for width in text.split(",")] if text else []


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dnn_hidden_units", type=widths, default="100",
                        help="widths of the hidden layers, such as 200,100; '' for none (default: 100)")
    parser.add_argument("--learning_rate", type=float, default=1e-3, help="step size (default: 1e-3)")
    parser.add_argument("--max_steps", type=int, default=1400, help="number of training steps (default: 1400)")
    parser.add_argument("--batch_size", type=int, default=200, help="images per training step (default: 200)")
    parser.add_argument("--eval_freq", type=int, default=100,
                        help="evaluate on the test split every so many steps (default: 100)")
    parser.add_argument("--data_dir", default="./cifar10/cifar-10-batches-py", help="folder of CIFAR-10's files")
    flags = parser.parse_args()
    for name, value in vars(flags).items():
        print(f"{name}: {value}")
    train(flags)


if __name__ == "__main__":
    main()
