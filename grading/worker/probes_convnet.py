"""Probes of question 4a: the ConvNet."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

from grading.worker import weights
from grading.worker.probes_torch import execution_order, tensor
from grading.worker.student import Task, probe, submitted

KINDS = {nn.Conv2d: "conv", nn.BatchNorm2d: "norm", nn.MaxPool2d: "pool", nn.Linear: "linear"}


def pair(value: Any) -> list[int]:
    return list(value) if isinstance(value, tuple) else [value, value] if isinstance(value, int) else []


def network() -> Any:
    torch.manual_seed(0)
    return submitted("convnet_pytorch").ConvNet(3, 10)


def described(module: Any, x: torch.Tensor, y: torch.Tensor) -> list[Any] | None:
    """[kind, shape of the weight or [], kernel, stride, padding, shape in, shape out]; None for other modules."""
    kind = next((name for kind, name in KINDS.items() if isinstance(module, kind)), None)
    if kind is None:
        return None
    shape = list(module.weight.shape) if kind != "pool" else []
    geometry = [pair(getattr(module, name, None)) for name in ("kernel_size", "stride", "padding")]
    return [kind, shape, *geometry, list(x.shape[1:]), list(y.shape[1:])]


@probe
def convnet_layers(task: Task) -> None:
    """Parameter count, the modules that run in their order, and the logits' shape."""
    model = network()
    task.note("parameters", sum(p.numel() for p in model.parameters()))
    with torch.no_grad(), execution_order(model.eval()) as calls:
        logits = model(torch.randn(2, 3, 32, 32))
    task.note("shape", list(logits.shape))
    task.note("layers", [row for call in calls if (row := described(*call))])


@probe
def convnet_values(task: Task) -> None:
    """Logits with the grader's parameters, and again with each residual convolution set to zero."""
    model, x = network().eval(), tensor(task, "x")
    with torch.no_grad():
        with execution_order(model) as calls:
            model(x)
        blocks = []
        module: Any
        for index, module in enumerate(module for module, _, _ in calls if isinstance(module, tuple(KINDS))
                                       and not isinstance(module, nn.MaxPool2d)):
            if isinstance(module, nn.BatchNorm2d):
                own: tuple = (module.weight, module.bias, module.running_mean, module.running_var)
                values: tuple = weights.batch_norm(index, module.num_features)
            else:
                own, values = (module.weight, module.bias), weights.convolution(index, tuple(module.weight.shape))
            for parameter, value in zip(own, values, strict=True):
                if parameter is not None:
                    parameter.copy_(torch.from_numpy(value))
            if isinstance(module, nn.Conv2d) and module.in_channels == module.out_channels:
                blocks.append(module)
        task.send("forward", model(x))
        without = []
        for block in blocks:
            kept = [p.clone() for p in block.parameters()]
            for p in block.parameters():
                p.zero_()
            without.append(model(x).numpy())
            for p, original in zip(block.parameters(), kept, strict=True):
                p.copy_(original)
        task.send("without", np.stack(without))


@probe
def convnet_training(task: Task) -> None:
    """Logits of a few images before each of a few steps of Adam on them."""
    model, x = network().train(), tensor(task, "x")
    targets = tensor(task, "labels")
    optimizer = torch.optim.Adam(model.parameters(), task.options["learning_rate"])
    history = []
    for _ in range(task.options["steps"]):
        logits = model(x)
        history.append(logits.detach().numpy().copy())
        loss = nn.functional.cross_entropy(logits, targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    task.send("logits", np.stack(history))
