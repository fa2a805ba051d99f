"""Train the NumPy MLP (question 1.2) by plain mini-batch gradient descent.

    python train_mlp_numpy.py                                       # the defaults: one hidden layer of 100 ELUs
    python train_mlp_numpy.py --dnn_hidden_units 200,100 --activation relu --weight_std 0.01
    python train_mlp_numpy.py --dnn_hidden_units '' --max_steps 500 # multinomial logistic regression
    python train_mlp_numpy.py --dataset mnist --epochs 20 --dnn_hidden_units 15,15 --activation relu \\
        --learning_rate 0.005 --batch_size 64 --weight_std 0.1 --pixel_scale 0.1      # the three-layer net on MNIST
    python train_mlp_numpy.py --resume results/train_mlp_numpy/<time>

Curves, metrics and checkpoints are left in results/train_mlp_numpy/<time>/.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

import numpy as np

from cifar10_utils import DataSet, get_cifar10
from imagefiles.mnist import get_mnist
from mlp_numpy import MLP
from modules import ACTIVATIONS, CrossEntropyModule, LinearModule
from training.flags import TrainingFlags, flag, hidden_units, non_negative_float, positive_float
from training.run import accuracy, start_run
from training.script import run_script

EVALUATION_BATCH = 1000


@dataclass
class Config(TrainingFlags):
    dnn_hidden_units: list[int] = flag("100", "widths of the hidden layers, such as 200,100; '' for none",
                                       type=hidden_units, group="assignment")
    activation: str = flag("elu", "activation function of the hidden layers", choices=list(ACTIVATIONS),
                           group="network", needs="--dnn_hidden_units")
    weight_std: float = flag(1e-4, "standard deviation of the initial weights", type=non_negative_float,
                             group="network")
    dataset: str = flag("cifar10", "which images; with mnist, --data_dir is ./mnist unless given",
                        choices=["cifar10", "mnist"], group="images")
    pixel_scale: float = flag(1.0, "pixels, 0..255 less the mean image, are multiplied by this", type=positive_float,
                              group="images")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.dataset == "mnist" and self.data_dir == TrainingFlags.data_dir:
            self.data_dir = "./mnist"


def evaluate(model: MLP, split: DataSet) -> tuple[float, float]:
    """Mean loss and accuracy over every sample of `split` once."""
    loss_module = CrossEntropyModule()
    loss_sum = correct_sum = 0.0
    for x, y in split.batches(EVALUATION_BATCH, reuse=True):
        probabilities = model.forward(x.reshape(len(x), -1))
        loss_sum += float(loss_module.forward(probabilities, y)) * len(x)
        correct_sum += accuracy(probabilities, y) * len(x)
    return loss_sum / split.num_examples, correct_sum / split.num_examples


def train(config: Config) -> dict[str, Any]:
    """Train as `config` says and return the run's summary."""
    get_data = get_mnist if config.dataset == "mnist" else get_cifar10
    data = get_data(config.data_dir, validation_size=config.validation_size, seed=config.seed,
                    scale=config.pixel_scale)
    n_inputs = data.mean_image.size

    model = MLP(n_inputs, config.dnn_hidden_units, 10, activation=config.activation,
                weight_std=config.weight_std, rng=np.random.default_rng(config.seed))
    linear_modules = [layer for layer in model.layers if isinstance(layer, LinearModule)]
    loss_module = CrossEntropyModule()

    def state_dict() -> dict[str, Any]:
        return {"params": [module.params for module in linear_modules], "batches": data.train.state()}

    def load_state_dict(state: dict[str, Any], step: int) -> None:
        for module, params in zip(linear_modules, state["params"], strict=True):
            for key, value in module.params.items():
                if params[key].shape != value.shape or params[key].dtype != value.dtype:
                    raise ValueError(f"its {key} is of shape {params[key].shape}, not {value.shape}")
                value[...] = params[key]
        data.train.load_state(state["batches"])

    with start_run(config, "train_mlp_numpy", data) as run:
        run.parameters = model.n_parameters
        run.restore(load_state_dict)
        # A diverging run overflows on its way to the check in run.record: one clear line, no warnings before it.
        with np.errstate(over="ignore", invalid="ignore"):
            images = y = None
            for _ in run.steps(state_dict, lambda split: evaluate(model, data[split])):
                images, y = data.train.next_batch(config.batch_size, images, y)  # (B, C, H, W), (B, 10), in place
                x = images.reshape(len(images), -1)                # (B, D)

                probabilities = model.forward(x)                   # (B, 10)
                loss = loss_module.forward(probabilities, y)
                model.backward(loss_module.backward(probabilities, y))

                for module in linear_modules:
                    for key, gradient in module.grads.items():
                        gradient *= config.learning_rate           # in place, as the gradients are
                        module.params[key] -= gradient

                run.record(loss, accuracy(probabilities, y), len(x))
    return run.summary


if __name__ == "__main__":
    sys.exit(run_script(Config, train, __doc__))
