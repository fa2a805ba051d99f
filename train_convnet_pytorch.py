"""Train the ConvNet of question 4a.

    python train_convnet_pytorch.py                                 # the defaults: 5000 steps of Adam
    python train_convnet_pytorch.py --max_steps 200 --eval_freq 100 # a look
    python train_convnet_pytorch.py --precision bf16                # faster where the processor multiplies bfloat16
    python train_convnet_pytorch.py --resume results/train_convnet_pytorch/<time>

Curves, metrics and checkpoints are left in results/train_convnet_pytorch/<time>/.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

from cifar10_utils import get_cifar10
from convnet_pytorch import ConvNet
from flags import flag, positive_float, positive_int
from training import accuracy, run_script  # noqa: F401 (accuracy is part of the script's interface)
from training_pytorch import OPTIMIZERS, TorchFlags, train_classifier


@dataclass
class Config(TorchFlags):
    learning_rate: float = flag(1e-4, "step size of the optimizer", type=positive_float)
    max_steps: int = flag(5000, "number of training steps (batches)", type=positive_int, resumable=True)
    batch_size: int = flag(32, "images per training step", type=positive_int)
    eval_freq: int = flag(500, "evaluate the whole test split every so many steps, and after the last one",
                          type=positive_int)
    optimizer: str = flag("adam", "update rule", choices=list(OPTIMIZERS))


def train(config: Config) -> dict[str, Any]:
    """Train as `config` says and return the run's summary."""
    data = get_cifar10(config.data_dir, one_hot=False, validation_size=config.validation_size, seed=config.seed)
    return train_classifier(lambda: ConvNet(3, 10), data, config, "train_convnet_pytorch")


if __name__ == "__main__":
    sys.exit(run_script(Config, train, __doc__))
