"""Train the ConvNet of question 4a, or the CNN of the hyper-parameter study.

    python train_convnet_pytorch.py                                 # the defaults: 5000 steps of Adam
    python train_convnet_pytorch.py --max_steps 200 --eval_freq 100 # a look
    python train_convnet_pytorch.py --precision bf16                # faster where the processor multiplies bfloat16
    python train_convnet_pytorch.py --model study --validation_size 5000
    python train_convnet_pytorch.py --model study --channels 20,25 --activation tanh --dropout 0.2
    python train_convnet_pytorch.py --resume results/train_convnet_pytorch/<time>

Curves, metrics and checkpoints are left in results/train_convnet_pytorch/<time>/. The study's net takes steps of four
images, too small to share among cores: it trains as fast with OMP_NUM_THREADS=1.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

from torch import nn

from cifar10_utils import get_cifar10
from convnet_pytorch import ConvNet
from networks.studynet import ACTIVATIONS, StudyNet
from training.flags import UserError, flag, fraction, hidden_units, non_negative_int, positive_float, positive_int
from training.run import accuracy  # noqa: F401 (part of the script's interface)
from training.script import run_script
from training.trainer import OPTIMIZERS, TorchFlags, train_classifier

# What a flag that is '' stands for. The study's: 5 epochs, and as many steps where --epochs is 0.
DEFAULTS: dict[str, dict[str, Any]] = {
    "convnet": dict(learning_rate=1e-4, max_steps=5000, batch_size=32, eval_freq=500, optimizer="adam", momentum=0.0,
                    epochs=0),
    "study": dict(learning_rate=1e-3, max_steps=62_500, batch_size=4, eval_freq=12_500, optimizer="sgd", momentum=0.9,
                  epochs=5),
}


def per_model(name: str, help: str, **kinds: Any) -> Any:
    """A flag whose default, '', stands for the model's own."""
    own = ", ".join(f"{defaults[name]} for {model}" for model, defaults in DEFAULTS.items())
    return flag("", f"{help}; '' is {own}", **kinds)


@dataclass
class Config(TorchFlags):
    learning_rate: float = per_model("learning_rate", "step size of the optimizer", type=positive_float)
    max_steps: int = per_model("max_steps", "number of training steps (batches)", type=positive_int, resumable=True)
    batch_size: int = per_model("batch_size", "images per training step", type=positive_int)
    eval_freq: int = per_model("eval_freq", "evaluate the whole test split every so many steps, and after the last "
                                            "one", type=positive_int)
    optimizer: str = per_model("optimizer", "update rule", choices=list(OPTIMIZERS))
    momentum: float = per_model("momentum", "momentum of sgd, nesterov, rmsprop and muon", type=fraction)
    epochs: int = per_model("epochs", "train this many epochs and evaluate after each; 0 counts in --max_steps, as "
                                      "does --max_steps alone", type=non_negative_int, resumable=True)
    pixel_scale: float = flag(1.0, "pixels, 0..255 less the mean image, are multiplied by this", type=positive_float)
    model: str = flag("convnet", "network; the flags below are of study alone", choices=list(DEFAULTS))
    channels: list[int] = flag("6,16", "widths of the 5x5 convolutions, one to four", type=hidden_units)
    fc: list[int] = flag("120,84", "widths of the fully connected hidden layers; '' for none", type=hidden_units)
    activation: str = flag("relu", "activation function of the fully connected layers (behind the convolutions stands "
                                   "ReLU)", choices=list(ACTIVATIONS))
    dropout: float = flag(0.0, "probability of zeroing a unit behind each fully connected hidden layer", type=fraction)

    def __post_init__(self) -> None:
        if self.epochs == "" and self.max_steps != "":
            self.epochs = 0
        for name, own in DEFAULTS.get(self.model, DEFAULTS["convnet"]).items():
            if getattr(self, name) == "":
                setattr(self, name, own)
        super().__post_init__()
        if self.model == "study" and self.pixel_scale != 1:
            raise UserError("--pixel_scale: the study net scales its pixels itself; leave it out")
        if self.model == "convnet" and self.batch_size == 1:
            raise UserError("--batch_size: batch normalization has no statistics of a single sample; use 2 or more")
        study = (self.channels, self.fc, self.activation, self.dropout)
        if self.model == "convnet" and study != ([6, 16], [120, 84], "relu", 0.0):
            raise UserError("--channels, --fc, --activation and --dropout are the study net's: add --model study")


def build_model(config: Config) -> nn.Module:
    if config.model == "convnet":
        return ConvNet(3, 10)
    try:
        return StudyNet(3, 10, config.channels, config.fc, config.activation, config.dropout)
    except ValueError as error:
        raise UserError(f"--channels: {error}") from None


def train(config: Config) -> dict[str, Any]:
    """Train as `config` says and return the run's summary."""
    data = get_cifar10(config.data_dir, one_hot=False, validation_size=config.validation_size, seed=config.seed,
                       scale=config.pixel_scale)
    return train_classifier(lambda: build_model(config), data, config, "train_convnet_pytorch")


if __name__ == "__main__":
    sys.exit(run_script(Config, train, __doc__))
