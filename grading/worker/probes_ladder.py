"""Probes of the ladder that every network climbs: its loss at the start, and a few images learned by heart."""

from __future__ import annotations

from typing import Any

import numpy as np

from grading.worker.student import Task, probe, submitted


def watch_linear_modules() -> list[Any]:
    """Every LinearModule made from now on, in the order they are made."""
    modules = submitted("modules")
    made: list[Any] = []
    original = modules.LinearModule.__init__

    def __init__(self: Any, *arguments: Any, **keywords: Any) -> None:
        original(self, *arguments, **keywords)
        made.append(self)

    modules.LinearModule.__init__ = __init__
    return made


@probe
def ladder_numpy(task: Task) -> None:
    """The NumPy MLP with its own loss, walked downhill: parameters are one vector, gradients another."""
    made = watch_linear_modules()
    n_inputs, *n_hidden, n_classes = task.options["sizes"]
    network, loss = submitted("mlp_numpy").MLP(n_inputs, n_hidden, n_classes), submitted("modules").CrossEntropyModule()
    x, targets = task.arrays["x"], task.arrays["targets"]
    at_start = loss.forward(network.forward(x.copy()), targets.copy())
    task.send("loss", np.asarray(at_start, float))
    for _ in range(task.options["steps"]):
        network.backward(loss.backward(network.forward(x.copy()), targets.copy()))
        move(made, -task.options["rate"] * joined(made, "grads"))
    task.send("scores", network.forward(x.copy()))


def joined(modules: list[Any], kind: str) -> np.ndarray:
    """Every number of `params` or `grads` of the modules, in one row."""
    return np.concatenate([np.ravel(getattr(module, kind)[key]) for module in modules for key in sorted(module.params)])


def move(modules: list[Any], by: np.ndarray) -> None:
    """Add `by`, of the order of `joined`, to the parameters."""
    for module in modules:
        for key in sorted(module.params):
            value = module.params[key]
            module.params[key] = value + by[:value.size].reshape(value.shape)
            by = by[value.size:]


@probe
def ladder_torch(task: Task) -> None:
    """A PyTorch network with cross-entropy and Adam. It stops early where every image is right."""
    import torch

    torch.manual_seed(0)
    file, name = task.options["class"]
    model = getattr(submitted(file), name)(*task.options["arguments"]).train()
    x, labels = (torch.from_numpy(task.arrays[key].copy()) for key in ("x", "labels"))
    measure = torch.nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(model.parameters(), task.options["rate"])

    scores = model(x)
    task.send("loss", measure(scores, labels))

    def loss() -> Any:
        nonlocal scores
        scores = model(x)
        optimizer.zero_grad()
        value = measure(scores, labels)
        value.backward()
        return value

    for _ in range(task.options["steps"]):
        optimizer.step(loss)
        if bool((scores.argmax(1) == labels).all()):
            break
    task.send("scores", scores)
