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


class ResidualBlock(nn.Module):
    """x + W2 h(W1 LayerNorm(x)), an inverted bottleneck: wider inside than outside (Tolstikhin et al. 2021).

    width: features in and out. expansion: times `width` are the hidden units inside. W2 starts at zero, so that a new
    network is its first and last layer alone.
    """

    def __init__(self, width: int, expansion: int, activation: str, dropout: float):
        super().__init__()
        last = nn.Linear(expansion * width, width)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.inner = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, expansion * width), ACTIVATIONS[activation](),
                                   nn.Dropout(dropout), last)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x of shape (B, width) -> the same shape."""
        return x + self.inner(x)


class ResidualMLP(nn.Module):
    """A linear layer, pre-norm residual blocks, LayerNorm and a linear layer: matrix products and nothing else.

    n_inputs, n_classes, activation, dropout: as in `MLP`. width, expansion: as in `ResidualBlock`. n_blocks: how many.
    """

    def __init__(self, n_inputs: int, width: int, n_blocks: int, n_classes: int, activation: str = "gelu",
                 expansion: int = 2, dropout: float = 0.0):
        super().__init__()
        blocks = [ResidualBlock(width, expansion, activation, dropout) for _ in range(n_blocks)]
        self.layers = nn.Sequential(nn.Linear(n_inputs, width), *blocks, nn.LayerNorm(width),
                                    nn.Linear(width, n_classes))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """As `MLP.forward`."""
        return self.layers(x.flatten(1))


class MLP(nn.Module):
    """Linear, normalization, activation, dropout for each hidden layer; then one linear layer.

    norm_before="linear" puts a normalization in front of every linear layer instead, the first and the last included.

    n_inputs: features per sample. n_hidden: widths of the hidden layers; [] is multinomial logistic regression.
    n_classes: number of classes. activation, normalization: keys of the tables above.
    dropout: probability of zeroing a hidden unit after its activation.
    weight_std: standard deviation of normal initial weights with zero biases, as the NumPy MLP has them;
    0 for PyTorch's default initialisation.
    """

    def __init__(self, n_inputs: int, n_hidden: Sequence[int], n_classes: int, activation: str = "elu",
                 normalization: str = "none", dropout: float = 0.0, weight_std: float = 0.0,
                 norm_before: str = "activation"):
        super().__init__()
        layers: list[nn.Module] = []

        def normalize(width: int, where: str) -> None:
            if normalization != "none" and where == norm_before:
                layers.append(NORMALIZATIONS[normalization](width))

        for n_in, n_out in zip([n_inputs, *n_hidden], n_hidden, strict=False):
            normalize(n_in, "linear")
            layers.append(nn.Linear(n_in, n_out))
            normalize(n_out, "activation")
            layers.append(ACTIVATIONS[activation]())
            if dropout:
                layers.append(nn.Dropout(dropout))
        n_last = [n_inputs, *n_hidden][-1]
        normalize(n_last, "linear")
        layers.append(nn.Linear(n_last, n_classes))
        self.layers = nn.Sequential(*layers)
        if weight_std:
            for layer in self.layers:
                if isinstance(layer, nn.Linear):
                    nn.init.normal_(layer.weight, std=weight_std)
                    nn.init.zeros_(layer.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x of shape (B, n_inputs), or images of shape (B, C, H, W) -> logits of shape (B, n_classes)."""
        return self.layers(x.flatten(1))
