"""Probes of question 4a: the ConvNet."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from grading.worker import weights
from grading.worker.construct import Network
from grading.worker.graph import Graph, Node
from grading.worker.probes_ladder import downhill
from grading.worker.probes_torch import READINGS, tensor
from grading.worker.student import Task, probe

STATISTICS = ("weight", "bias", "running_mean", "running_var")


def maker(task: Task) -> Network:
    torch.manual_seed(0)
    return Network(task, "convnet_pytorch", "ConvNet", "train_convnet_pytorch.py")


def count(model: torch.nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def other_sizes(task: Task, make: Network, images: int, channels: int, classes: int) -> list[int]:
    """Shape of the output of a network for images of other channels and for other classes; notes its parameters."""
    model = make(channels, classes).eval()
    task.note("other parameters", count(model))
    with torch.no_grad():
        return list(model(torch.zeros(images, channels, 32, 32)).shape)


def with_linear_end(nodes: list[Node]) -> list[Node]:
    """The nodes, in which a last convolution of 1x1 over a map of 1x1 is the linear layer that it amounts to."""
    last = next((node for node in reversed(nodes) if node.kind in ("convolution", "linear")), None)
    if last and last.kind == "convolution" and last.geometry[0] == [1, 1] and (
            last.shape_in[2:] == last.shape_out[2:] == (1, 1)):
        last.kind, last.geometry = "linear", []
    return nodes


def sizes(node: Node) -> tuple[int, ...]:
    """Of the node's weight: without the kernel's in a linear layer; () where it has none."""
    shape = tuple(node.tensors["weight"].shape) if "weight" in node.tensors else ()
    return shape[:2] if node.kind == "linear" else shape


def described(nodes: list[Node]) -> list[list[Any]]:
    """[kind, inputs, number of the weight, its shape, kernel, stride, padding, shape in, shape out] of every node.

    The weight's number is the same wherever the same parameter is used; -1 for a node without.
    """
    numbers: dict[int, int] = {}
    found = []
    for node in nodes:
        weight = node.tensors.get("weight")
        number = -1 if weight is None else numbers.setdefault(id(weight), len(numbers))
        geometry = [*node.geometry, [], [], []][:3]
        found.append([node.kind, node.inputs, number, list(sizes(node)), *geometry,
                      list(node.shape_in[1:]), list(node.shape_out[1:])])
    return found


def fill(nodes: list[Node], number: int) -> None:
    """The grader's values for the parameters of convolutions, BatchNorms and linear layers, in their order."""
    kinds = ("convolution", "BatchNorm", "linear")
    for index, node in enumerate(node for node in nodes if node.kind in kinds):
        if node.kind == "BatchNorm":
            values: tuple[np.ndarray, ...] = weights.batch_norm(number, index, node.shape_in[1])
        else:
            values = weights.affine(number, index, sizes(node))
        for name, value in zip(STATISTICS, values, strict=False):
            if name in node.tensors:
                node.tensors[name].copy_(torch.from_numpy(value).view(node.tensors[name].shape))


@probe
def convnet(task: Task) -> None:
    """Parameter count, the operators from image to output, and class probabilities with the grader's parameters.

    Of a network that raises: the operators up to there.
    """
    make, x = maker(task), tensor(task, "x")
    task.note("other sizes", task.attempt("other", other_sizes, task, make, *task.options["other"]))
    model = make(3, 10).eval()
    task.note("parameters", count(model))
    with torch.no_grad():
        with Graph(x) as graph:
            y = task.attempt("forward", model, x)
        nodes = with_linear_end(graph.path(graph.last if y is None else y))
        task.note("nodes", described(nodes))
        task.note("biases left out", sum(node.shape_out[1] for node in nodes if node.kind == "convolution"
                                         and "bias" not in node.tensors))
        if y is None:
            return
        fill(nodes, task.options["weights"])
        y = model(x)
        if y.dim() == 2:
            for reading, probabilities in READINGS.items():
                task.send(reading, probabilities(y))


@probe
def convnet_training(task: Task) -> None:
    """Cross-entropy of a few images before and between a few steps downhill."""
    model, x = maker(task)(3, 10).train(), tensor(task, "x")
    steps = downhill(model, x, tensor(task, "labels"), task.options["steps"] - 1, task.options["learning_rate"])
    task.send("losses", torch.stack([loss for loss, _ in steps]))
