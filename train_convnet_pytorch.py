"""Train the ConvNet of question 4a, or the CNN of the hyper-parameter study.

    python train_convnet_pytorch.py                                 # the defaults: 5000 steps of Adam
    python train_convnet_pytorch.py --max_steps 200 --eval_freq 100 # a look
    python train_convnet_pytorch.py --precision fp32                # not in bfloat16 where the processor multiplies it
    python train_convnet_pytorch.py --recipe convnet-94             # for a GPU
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
from training.flags import UserError, flag, fraction, hidden_units, positive_float, redefined
from training.run import accuracy  # noqa: F401 (part of the script's interface)
from training.script import run_script
from training.trainer import TorchFlags, train_classifier

# What a flag that is '' stands for. The study's: 5 epochs, and as many steps where --epochs is 0.
DEFAULTS: dict[str, dict[str, Any]] = {
    "convnet": dict(learning_rate=1e-4, max_steps=5000, batch_size=32, eval_freq=500, optimizer="adam", momentum=0.0,
                    epochs=0, precision="auto"),
    "study": dict(learning_rate=1e-3, max_steps=62_500, batch_size=4, eval_freq=12_500, optimizer="sgd", momentum=0.9,
                  epochs=5, precision="fp32"),
}


def per_model(name: str) -> Any:
    """The flag `name` with the default '', which stands for the model's own."""
    own = ", ".join(f"{defaults[name]} for {model}" for model, defaults in DEFAULTS.items())
    return redefined(TorchFlags, name, "", f"{{help}}; '' is {own}")


@dataclass
class Config(TorchFlags):
    learning_rate: float = per_model("learning_rate")
    max_steps: int = per_model("max_steps")
    batch_size: int = per_model("batch_size")
    eval_freq: int = per_model("eval_freq")
    optimizer: str = per_model("optimizer")
    momentum: float = per_model("momentum")
    epochs: int = per_model("epochs")
    precision: str = per_model("precision")
    pixel_scale: float = flag(1.0, "pixels, 0..255 less the mean image, are multiplied by this; the study net does "
                                   "that itself", type=positive_float, group="images", needs="--model convnet")
    model: str = flag("convnet", "network", choices=list(DEFAULTS), group="network")
    channels: list[int] = flag("6,16", "widths of the 5x5 convolutions, one to four", type=hidden_units,
                               group="network", needs="--model study")
    fc: list[int] = flag("120,84", "widths of the fully connected hidden layers; '' for none", type=hidden_units,
                         group="network", needs="--model study")
    activation: str = flag("relu", "activation function of the fully connected layers (behind the convolutions stands "
                                   "ReLU)", choices=list(ACTIVATIONS), group="network",
                           needs="--model study and --fc")
    dropout: float = flag(0.0, "probability of zeroing a unit behind each fully connected hidden layer", type=fraction,
                          group="network", needs="--model study and --fc")

    def __post_init__(self) -> None:
        if self.epochs == "" and self.max_steps != "":  # steps that are given are counted
            self.epochs = 0
        for name, own in DEFAULTS.get(self.model, DEFAULTS["convnet"]).items():
            if getattr(self, name) == "":
                setattr(self, name, own)
        super().__post_init__()
        if self.model == "convnet" and self.batch_size == 1:
            raise UserError("--batch_size: batch normalization has no statistics of a single sample; use 2 or more")

    def default_of(self, name: str) -> Any:
        return DEFAULTS[self.model][name] if name in DEFAULTS[self.model] else super().default_of(name)


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
