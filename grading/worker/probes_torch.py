"""Probe of question 2.1: the MLP in PyTorch."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import torch
from torch import nn

from grading.worker.student import Task, probe, submitted


@contextlib.contextmanager
def execution_order(model: nn.Module) -> Iterator[list[tuple[nn.Module, torch.Tensor, torch.Tensor]]]:
    """Collects (leaf module, its input, its output) in the order in which they run."""
    calls: list[tuple[nn.Module, torch.Tensor, torch.Tensor]] = []
    leaves = [module for module in model.modules() if not list(module.children())]
    hooks = [module.register_forward_hook(lambda module, x, y: calls.append((module, x[0], y))) for module in leaves]
    try:
        yield calls
    finally:
        for hook in hooks:
            hook.remove()


def tensor(task: Task, name: str) -> torch.Tensor:
    return torch.from_numpy(task.arrays[name].copy())


def is_plain(module: nn.Module) -> bool:
    """Whether a new module in evaluation mode only applies a function, or leaves its input as it is (to 1e-5)."""
    kinds = nn.Identity | nn.Flatten | nn.Dropout | nn.AlphaDropout | nn.BatchNorm1d
    return isinstance(module, kinds) or type(module).__module__.endswith("activation")


@probe
def mlp_torch(task: Task) -> None:
    """Layers, logits and gradients of the MLP with the grader's parameters, in float64."""
    sizes = task.options["sizes"]
    model: Any = submitted("mlp_pytorch").MLP(sizes[0], sizes[1:-1], sizes[-1])
    x, dout = tensor(task, "x"), tensor(task, "dout")
    task.note("parameters", sum(p.numel() for p in model.parameters()))
    model = model.double().eval()
    with execution_order(model) as calls:
        task.send("shape", torch.tensor(model(x).shape))
    layers = [module for module, _, _ in calls if isinstance(module, nn.Linear)]
    others = [module for module, _, _ in calls if not isinstance(module, nn.Linear)]
    extra = [module for module in others if not is_plain(module)]
    task.note("layers", [list(layer.weight.shape)[::-1] for layer in layers])
    task.note("registered", sum(p.numel() for layer in layers for p in layer.parameters()))
    task.note("extra parameters", sum(p.numel() for module in others for p in module.parameters()))
    task.note("extra", sorted({type(module).__name__ for module in extra}))
    if task.notes["layers"] != [list(pair) for pair in pairwise(sizes)]:
        return
    with torch.no_grad():
        for i, layer in enumerate(layers):
            layer.weight.copy_(tensor(task, f"weight{i}"))
            if layer.bias is not None:
                layer.bias.copy_(tensor(task, f"bias{i}"))
    logits = model(x)
    task.send("forward", logits)
    (logits * dout).sum().backward()
    for i, layer in enumerate(layers):
        for name, parameter in layer.named_parameters():
            if parameter.grad is not None:
                task.send(f"{i} {name}", parameter.grad)
