"""A multi-layer perceptron from the modules of `modules.py` (question 1.2).

    from mlp_numpy import MLP
    from modules import CrossEntropyModule
    mlp, loss = MLP(3072, [100], 10), CrossEntropyModule()
    probabilities = mlp.forward(x)                  # x (S, 3072), y one-hot (S, 10)
    mlp.backward(loss.backward(probabilities, y))
    for _, module, key in mlp.parameters():
        module.params[key] -= learning_rate * module.grads[key]
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from modules import ACTIVATIONS, LinearModule, SoftMaxModule


class MLP:
    """Linear, activation, ..., linear, softmax.

    Args:
        n_inputs: features of a sample.
        n_hidden: width of each hidden layer; [] leaves one linear layer, multinomial logistic regression.
        n_classes: classes to tell apart.
        activation: after each hidden layer, a key of `modules.ACTIVATIONS`.
        weight_std: standard deviation of the initial weights. Biases start at zero.
        rng: generator of the initial weights; None takes NumPy's global one.
        dtype: of the parameters; give `forward` the same.

    Attributes:
        layers: the modules, in the order of the forward pass.

    Raises:
        ValueError: an unknown activation.
    """

    def __init__(self, n_inputs: int, n_hidden: Sequence[int], n_classes: int, activation: str = "elu",
                 weight_std: float = 0.0001, rng: np.random.Generator | None = None,
                 dtype: DTypeLike = np.float32) -> None:
        if activation not in ACTIVATIONS:
            raise ValueError(f"unknown activation {activation!r}: choose one of {', '.join(ACTIVATIONS)}")
        self.layers: list = []
        widths = [n_inputs, *n_hidden]
        for n_in, n_out in pairwise(widths):
            self.layers += [LinearModule(n_in, n_out, weight_std=weight_std, rng=rng, dtype=dtype),
                            ACTIVATIONS[activation]()]
        self.layers += [LinearModule(widths[-1], n_classes, weight_std=weight_std, rng=rng, dtype=dtype),
                        SoftMaxModule()]

    def forward(self, x: np.ndarray) -> np.ndarray:
        """Probabilities of shape (S, n_classes) from x of shape (S, n_inputs)."""
        for layer in self.layers:
            x = layer.forward(x)
        return x

    def backward(self, dout: np.ndarray) -> None:
        """Fills every `grads`, from dout, dL/d(probabilities), of shape (S, n_classes)."""
        for layer in reversed(self.layers[1:]):
            dout = layer.backward(dout)
        self.layers[0].backward(dout, input_grad=False)

    def parameters(self) -> Iterator[tuple[str, LinearModule, str]]:
        """(name, module, key) of every parameter, `module.params[key]`, with gradient `module.grads[key]`."""
        for i, layer in enumerate(self.layers):
            for key in getattr(layer, "params", ()):
                yield f"layers.{i}.{key}", layer, key

    def __repr__(self) -> str:
        """MLP(LinearModule 3072 -> 100, ELUModule, LinearModule 100 -> 10, SoftMaxModule; 308,310 parameters)"""
        def shown(layer: Any) -> str:
            name, weight = type(layer).__name__, getattr(layer, "params", {}).get("weight")
            return name if weight is None else f"{name} {weight.shape[1]} -> {weight.shape[0]}"

        return f"MLP({', '.join(map(shown, self.layers))}; {self.n_parameters:,} parameters)"

    @property
    def n_parameters(self) -> int:
        """Number of weights and biases."""
        return sum(module.params[key].size for _, module, key in self.parameters())
