"""Probes of the ladder that every network climbs: its first loss, its gradients, and a few images overfitted."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any
from unittest import mock

import numpy as np

from grading.worker.interface import Parameters, call, initialiser, part, watch_returns
from grading.worker.probes_numpy import MODULES, module, network
from grading.worker.student import Task, probe

ROLES = ("weight", "bias")
DIRECTIONS, STEP = 4, 1e-6  # the weights are about 1e-4


def watched_network(task: Task) -> tuple[Any, list[Parameters]]:
    """The NumPy MLP and the parameters of its linear layers, in the order in which they are made."""
    for name in MODULES:
        watch_returns(part("modules", name))
    constructor, made, sizes = part("modules", "LinearModule"), [], task.options["sizes"]
    init = initialiser(constructor)

    def __init__(self: Any, *arguments: Any, **keywords: Any) -> None:
        init(self, *arguments, **keywords)
        made.append(self)

    with mock.patch.object(constructor, "__init__", __init__):
        found = network(task, sizes[0], sizes[1:-1], sizes[-1])
    return found, [Parameters(layer, *pair) for layer, pair in zip(made, pairwise(sizes), strict=False)]


@probe
def ladder_numpy(task: Task) -> None:
    """The NumPy MLP with its own loss, walked downhill: parameters are one vector, gradients another.

    An MLP that does not return probabilities is given the SoftMaxModule that its script puts after it.
    """
    found, layers = watched_network(task)
    loss, x, targets = module(task, "CrossEntropyModule"), task.arrays["x"], task.arrays["targets"]
    outer = [found]
    if not np.allclose(np.sum(forward(outer, x), axis=1), 1):
        outer.append(module(task, "SoftMaxModule"))
    p = forward(outer, x)
    task.send("loss", np.mean(call(loss, "forward", x=p, y=targets.copy())))
    task.attempt("slopes", lambda: task.send("slopes", slopes(outer, loss, layers, x, targets)))
    p = forward(outer, x)
    for _ in range(task.options["steps"]):
        move(layers, -task.options["rate"] * gradients(outer, loss, layers, p, targets))
        p = forward(outer, x)
    task.send("scores", p)


def gradients(modules: list[Any], loss: Any, layers: list[Parameters], p: Any, targets: np.ndarray) -> np.ndarray:
    """Of the loss, by every parameter of the layers in turn, after a forward pass that gave `p`."""
    gradient = call(loss, "backward", x=p, y=targets.copy())
    for found in reversed(modules):
        gradient = call(found, "backward", dout=gradient)
    return np.concatenate([np.ravel(layer.gradient(role)[0]) for layer in layers for role in ROLES])


def slopes(modules: list[Any], loss: Any, layers: list[Parameters], x: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """(2, DIRECTIONS): of the loss in random directions, by its own gradients and by central differences."""
    rng = np.random.default_rng(0)
    by_gradients = gradients(modules, loss, layers, forward(modules, x), targets)
    found = []
    for direction in rng.normal(0, STEP, (DIRECTIONS, by_gradients.size)):
        values = []
        for step in (direction, -2 * direction, direction):  # there, to the other side, and back
            move(layers, step)
            values.append(float(np.mean(call(loss, "forward", x=forward(modules, x), y=targets.copy()))))
        found.append((float(by_gradients @ direction) / STEP, (values[0] - values[1]) / (2 * STEP)))
    return np.array(found).T


def forward(modules: list[Any], x: np.ndarray) -> Any:
    """The output of modules that follow each other."""
    x = x.copy()
    for found in modules:
        x = call(found, "forward", x=x)
    return x


def move(layers: list[Parameters], by: np.ndarray) -> None:
    """Add `by`, a number for each weight and bias of the layers in turn, to them."""
    for layer in layers:
        values = {}
        for role in ROLES:
            value = np.asarray(layer.params[layer.keys[role]], float)
            values[role] = value + by[:value.size].reshape(value.shape)
            by = by[value.size:]
        layer.put(values["weight"].T if layer.transposed else values["weight"], values["bias"])


@probe
def ladder_torch(task: Task) -> None:
    """A PyTorch network with cross-entropy, walked downhill. It stops early where every image is right."""
    import torch

    from grading.worker.construct import Network

    torch.manual_seed(0)
    model = Network(task, *task.options["network"])(*task.options["arguments"]).train()
    x, labels = (torch.from_numpy(task.arrays[key].copy()) for key in ("x", "labels"))
    for loss, scores in downhill(model, x, labels, task.options["steps"], task.options["rate"]):
        if "loss" not in task.sent:
            task.send("loss", loss)
        if bool((scores.argmax(1) == labels).all()):
            break
    task.send("scores", scores)


def downhill(model: Any, x: Any, labels: Any, steps: int, rate: float) -> Iterator[tuple[Any, Any]]:
    """(cross-entropy, scores) of a PyTorch network before each of so many steps downhill, and after the last.

    A step is a running mean of gradients over the root of a running mean of their squares, as in Adam. Outputs that are
    probabilities are read as such: the network's own script takes their logarithm.
    """
    import torch

    parameters = [p for p in model.parameters() if p.requires_grad]
    means = [(torch.zeros_like(p), torch.zeros_like(p)) for p in parameters]
    for step in range(1, steps + 2):
        scores = model(x)
        sums_to_one = bool((scores >= 0).all()) and torch.allclose(scores.sum(1), torch.ones(len(scores)), atol=1e-4)
        logs = torch.log(scores.clamp_min(1e-30)) if sums_to_one else scores.log_softmax(1)
        loss = -logs[torch.arange(len(labels)), labels].mean()
        yield loss.detach(), scores.detach()
        if step > steps:
            return
        slopes = torch.autograd.grad(loss, parameters, allow_unused=True)
        with torch.no_grad():
            for p, slope, (mean, square) in zip(parameters, slopes, means, strict=True):
                if slope is not None:
                    mean.lerp_(slope, 0.1)
                    square.lerp_(slope ** 2, 0.001)
                    p -= rate * (mean / (1 - 0.9 ** step)) / ((square / (1 - 0.999 ** step)).sqrt() + 1e-8)
