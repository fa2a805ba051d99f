"""Probes of the ladder that every network climbs: its loss at the start, and a few images learned by heart."""

from __future__ import annotations

from itertools import pairwise
from typing import Any
from unittest import mock

import numpy as np

from grading.worker.interface import Parameters, call, part
from grading.worker.probes_numpy import module, network
from grading.worker.student import Task, probe

ROLES = ("weight", "bias")


def watched_network(task: Task) -> tuple[Any, list[Parameters]]:
    """The NumPy MLP and the parameters of its linear layers, in the order in which they are made."""
    constructor, made, sizes = part("modules", "LinearModule"), [], task.options["sizes"]
    init = constructor.__init__

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
    task.send("loss", np.asarray(call(loss, "forward", x=p, y=targets.copy()), float))
    for _ in range(task.options["steps"]):
        gradient = call(loss, "backward", x=p, y=targets.copy())
        for outer_module in reversed(outer):
            gradient = call(outer_module, "backward", dout=gradient)
        downhill = np.concatenate([np.ravel(layer.gradient(role)[0]) for layer in layers for role in ROLES])
        move(layers, -task.options["rate"] * downhill)
        p = forward(outer, x)
    task.send("scores", p)


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
    """A PyTorch network with cross-entropy and Adam. It stops early where every image is right.

    Outputs that are probabilities are read as such: the network's own script takes their logarithm.
    """
    import torch

    from grading.worker.construct import Network

    torch.manual_seed(0)
    model = Network(task, *task.options["network"])(*task.options["arguments"]).train()
    x, labels = (torch.from_numpy(task.arrays[key].copy()) for key in ("x", "labels"))
    optimizer = torch.optim.Adam(model.parameters(), task.options["rate"])
    scores = model(x)
    sums_to_one = bool((scores >= 0).all()) and torch.allclose(scores.sum(1), torch.ones(len(scores)), atol=1e-4)

    def measured() -> Any:
        logits = scores.clamp_min(1e-30).log() if sums_to_one else scores
        return torch.nn.CrossEntropyLoss()(logits, labels)

    task.send("loss", measured())

    def loss() -> Any:
        nonlocal scores
        scores = model(x)
        optimizer.zero_grad()
        value = measured()
        value.backward()
        return value

    for _ in range(task.options["steps"]):
        optimizer.step(loss)
        if bool((scores.argmax(1) == labels).all()):
            break
    task.send("scores", scores)
