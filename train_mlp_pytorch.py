"""Train the PyTorch MLP (question 2.1).

    python train_mlp_pytorch.py                                     # the NumPy script's defaults
    python train_mlp_pytorch.py --dnn_hidden_units 500,200 --activation relu --optimizer adam \\
        --learning_rate 8e-4 --batch_size 300 --max_steps 3000 --weight_decay 0.001
    python train_mlp_pytorch.py --normalization layer --dropout 0.2 --validation_size 5000
    python train_mlp_pytorch.py --resume results/train_mlp_pytorch/<time>

Curves, metrics and checkpoints are left in results/train_mlp_pytorch/<time>/.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from mlp_pytorch import ACTIVATIONS, MLP, NORMALIZATIONS, ResidualMLP
from training.flags import (
    UserError,
    flag,
    fraction,
    hidden_units,
    non_negative_float,
    non_negative_int,
    positive_float,
    positive_int,
)
from training.run import accuracy  # noqa: F401 (part of the script's interface)
from training.script import run_script
from training.trainer import TorchFlags, train_classifier


@dataclass
class Config(TorchFlags):
    dnn_hidden_units: list[int] = flag("100", "widths of the hidden layers, such as 200,100; '' for none",
                                       type=hidden_units, group="assignment")
    activation: str = flag("elu", "activation function of the hidden layers", choices=list(ACTIVATIONS),
                           group="network", needs="--dnn_hidden_units")
    normalization: str = flag("none", "between a hidden layer's linear map and its activation: layer and batch are "
                                      "ours with the backward by hand, *_torch are PyTorch's",
                              choices=list(NORMALIZATIONS), group="network",
                              needs="--dnn_hidden_units or --norm_before linear")
    norm_before: str = flag("activation", "where normalization stands: before each activation, or before every linear "
                                          "layer, the first included (residual blocks have their own way)",
                            choices=["activation", "linear"], group="network",
                            needs=f"--normalization {'|'.join(name for name in NORMALIZATIONS if name != 'none')}")
    dropout: float = flag(0.0, "probability of zeroing a hidden unit while training", type=fraction, group="network",
                          needs="--dnn_hidden_units")
    input_dropout: float = flag(0.0, "probability of zeroing an input while training", type=fraction, group="network")
    weight_std: float = flag(1e-4, "standard deviation of normal initial weights, with zero biases; 0 for PyTorch's "
                                   "default initialisation", type=non_negative_float, group="network",
                             needs="--blocks 0")
    blocks: int = flag(0, "residual blocks (LayerNorm, a layer wider inside) behind one hidden layer; 0 for the plain "
                          "network", type=non_negative_int, group="network")
    expansion: int = flag(2, "how many times as wide a residual block is inside", type=positive_int, group="network",
                          needs="--blocks")
    pixel_scale: float = flag(1.0, "pixels, 0..255 less the mean image, are multiplied by this", type=positive_float,
                              group="images")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.blocks and (len(self.dnn_hidden_units) != 1 or self.normalization != "none"):
            raise UserError("--blocks: residual blocks have one width, such as --dnn_hidden_units 512, and a LayerNorm "
                            "of their own, --normalization none")
        if self.normalization.startswith("batch") and self.batch_size == 1:
            raise UserError("--batch_size: batch normalization has no statistics of a single sample; use 2 or more")
        if self.normalization == "batch" and self.validation_size == 1:
            raise UserError("--validation_size: our batch normalization needs two images or more, in evaluation, too")


def build_model(config: Config, shape: Sequence[int] = (3, 32, 32), classes: int = 10) -> nn.Module:
    """The network of `config` for images of this shape."""
    model: nn.Module
    if config.blocks:
        model = ResidualMLP(math.prod(shape), config.dnn_hidden_units[0], config.blocks, classes, config.activation,
                            config.expansion, config.dropout)
    else:
        model = MLP(math.prod(shape), config.dnn_hidden_units, classes, config.activation, config.normalization,
                    config.dropout, config.weight_std, config.norm_before)
    return nn.Sequential(nn.Dropout(config.input_dropout), model) if config.input_dropout else model


def train(config: Config, watch: Callable[[int, float], None] | None = None) -> dict[str, Any]:
    """Train as `config` says and return the run's summary. watch: as in `training.run.Run`."""
    data = config.load_data()
    return train_classifier(lambda: build_model(config, data.mean_image.shape, len(data.class_names)), data, config,
                            "train_mlp_pytorch", watch=watch)


if __name__ == "__main__":
    sys.exit(run_script(Config, train, __doc__))
