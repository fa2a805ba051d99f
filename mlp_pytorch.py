"""A multi-layer perceptron in PyTorch (question 2.1), with the parts the assignment asks to try."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import nn

from custom_batchnorm import CustomBatchNormManualModule
from custom_layernorm import CustomLayerNormAutograd, CustomLayerNormManualModule

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "elu": nn.ELU, "relu": nn.ReLU, "tanh": nn.Tanh, "sigmoid": nn.Sigmoid, "gelu": nn.GELU,
}
NORMALIZATIONS: dict[str, Callable[[int], nn.Module]] = {
    "none": lambda n_neurons: nn.Identity(),
    "layer": CustomLayerNormManualModule,           # ours, backward by hand
    "layer_autograd": CustomLayerNormAutograd,      # ours, backward by autograd
    "layer_torch": nn.LayerNorm,
    "batch": CustomBatchNormManualModule,           # ours: statistics of the batch, in evaluation too
    "batch_torch": nn.BatchNorm1d,                  # running averages in evaluation
}


class MLP(nn.Module):
    """Linear, normalization, activation, dropout for each hidden layer; then one linear layer.

    n_inputs: features per sample. n_hidden: widths of the hidden layers; [] is multinomial logistic regression.
    n_classes: number of classes. activation, normalization: keys of the tables above.
    dropout: probability of zeroing a hidden unit after its activation.
    weight_std: standard deviation of normal initial weights with zero biases, as the NumPy MLP has them;
    0 for PyTorch's default initialisation.
    """

    def __init__(self, n_inputs: int, n_hidden: Sequence[int], n_classes: int, activation: str = "elu",
                 normalization: str = "none", dropout: float = 0.0, weight_std: float = 0.0):
        super().__init__()
        layers: list[nn.Module] = []
        for n_in, n_out in zip([n_inputs, *n_hidden], n_hidden, strict=False):
            layers.append(nn.Linear(n_in, n_out))
            if normalization != "none":
                layers.append(NORMALIZATIONS[normalization](n_out))
            layers.append(ACTIVATIONS[activation]())
            if dropout:
                layers.append(nn.Dropout(dropout))
        layers.append(nn.Linear([n_inputs, *n_hidden][-1], n_classes))
        self.layers = nn.Sequential(*layers)
        if weight_std:
            for layer in self.layers:
                if isinstance(layer, nn.Linear):
                    nn.init.normal_(layer.weight, std=weight_std)
                    nn.init.zeros_(layer.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x of shape (B, n_inputs), or images of shape (B, C, H, W) -> logits of shape (B, n_classes)."""
        return self.layers(x.flatten(1))
