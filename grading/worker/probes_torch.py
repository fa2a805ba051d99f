"""Probe of question 2.1: the MLP in PyTorch."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
from torch import nn

from grading.worker.construct import Network
from grading.worker.graph import Graph, Node
from grading.worker.student import Absent, Task, probe, returned

# What a loss may take the network's output for: how the class probabilities follow from it.
READINGS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "logits": lambda y: y.softmax(1), "log-probabilities": torch.exp, "probabilities": lambda y: y}
EXTRA = (nn.modules.batchnorm._BatchNorm, nn.modules.instancenorm._InstanceNorm, nn.modules.dropout._DropoutNd,
         nn.LayerNorm, nn.GroupNorm)
IMAGE = (3, 32, 32)
nn.modules.module.register_module_forward_hook(lambda module, x, y: returned(f"{type(module).__name__}.forward", y))


def tensor(task: Task, name: str) -> torch.Tensor:
    return torch.from_numpy(task.arrays[name].copy())


def is_extra(module: nn.Module) -> bool:
    """Whether it is a dropout or normalization layer, PyTorch's or their own: the assignment invites to add layers."""
    if isinstance(module, EXTRA):
        return True
    parameters = list(module.parameters())
    return (not type(module).__module__.startswith("torch.") and bool(list(module.parameters(recurse=False)))
            and all(p.numel() == max(p.shape, default=1) for p in parameters))


def leave_out(model: nn.Module) -> list[nn.Module]:
    """Have every extra layer return its input, and return these layers."""
    found = [module for module in model.modules() if module is not model and is_extra(module)]
    for module in found:
        module.register_forward_hook(lambda _, x, y: x[0] if x and x[0].shape == y.shape else None)
    return found


class Built:
    """An MLP of the submission, and the input that it takes.

    It is tried with few inputs, flat and as an image; then as for CIFAR-10, for those that only take 3072 of them, of
    which the first few are the grader's and the others 0. In float64, else in float32.
    """

    def __init__(self, make: Network, sizes: list[int], x: torch.Tensor):
        self.make, self.sizes = make, sizes
        n_inputs = sizes[0]
        wide = torch.zeros(len(x), 3072, dtype=x.dtype)
        wide[:, :n_inputs] = x
        failure: Exception | None = None
        for given in (x, x.view(len(x), 1, 1, n_inputs), wide, wide.view(-1, *IMAGE)):
            for kind in (torch.float64, torch.float32):
                try:
                    self.model = self.build(given[0].numel(), kind)
                    self.extra = leave_out(self.model)
                    self.x = given.to(kind)
                    with torch.no_grad(), Graph(self.x) as graph:
                        y = self.model(self.x)
                    if not isinstance(y, torch.Tensor):
                        raise Absent(f"MLP.forward returns {type(y).__name__}, not a tensor: return the "
                                     "output of the network alone")
                    self.path, self.shape = graph.path(y), tuple(y.shape)
                    return
                except Exception as error:
                    failure = failure or error
        assert failure is not None
        raise failure

    def build(self, n_inputs: int, kind: torch.dtype) -> Any:
        torch.set_default_dtype(kind)  # also for parameters that nobody registered
        torch.manual_seed(0)
        return self.make(n_inputs, self.sizes[1:-1], self.sizes[-1]).to(kind).eval()

    @property
    def linear(self) -> list[Node]:
        return [node for node in self.path if node.kind == "linear"]

    def widths(self) -> list[list[int]]:
        """(in, out) of the linear layers that run, whichever dimensions of a product the samples and features are."""
        return [[math.prod(shape) // len(self.x) for shape in (node.shape_in, node.shape_out)] for node in self.linear]

    def told(self) -> list[list[int]]:
        """`widths`, with the grader's number of inputs where the network has that many once it is told so."""
        pairs = self.widths()
        if pairs and self.x[0].numel() != self.sizes[0] == self.small_inputs():
            pairs[0][0] = self.sizes[0]
        return pairs

    @property
    def comparable(self) -> bool:
        """Whether the grader's parameters fit in."""
        sizes = [self.x[0].numel(), *self.sizes[1:]]
        return self.widths() == [list(pair) for pair in pairwise(sizes)] and self.shape == (len(self.x), sizes[-1])

    def small_inputs(self) -> int | None:
        """How many inputs the first layer has if the constructor is told the grader's number; None if it cannot be."""
        weights = [p for p in self.build(self.sizes[0], self.x.dtype).parameters() if p.dim() == 2]
        return self.sizes[0] if weights and self.sizes[0] in weights[0].shape else None

    def functions(self) -> list[list[str]]:
        """What is applied between two linear layers, and after the last: one list for each linear layer."""
        found: list[list[str]] = []
        for node in self.path:
            if node.kind == "linear":
                found.append([])
            elif found:
                found[-1].append(node.kind)
        return found

    def parameters(self) -> int:
        """How many the network has when it is told the grader's number of inputs, without those of extra layers."""
        model = self.build(self.sizes[0], self.x.dtype)
        extra = {id(p) for module in model.modules() if module is not model and is_extra(module)
                 for p in module.parameters()}
        return sum(p.numel() for p in model.parameters() if id(p) not in extra)


@probe
def mlp_torch(task: Task) -> None:
    """Layers, class probabilities and gradients of each MLP in options['networks'], with the grader's parameters."""
    make = Network(task, "mlp_pytorch", "MLP", "train_mlp_pytorch.py")
    extra: set[str] = set()
    for name, sizes in task.options["networks"].items():
        built = task.attempt(name, Built, make, sizes, tensor(task, f"{name} x"))
        if built is not None:
            extra |= {type(module).__name__ for module in built.extra}
            task.attempt(name, examine, task, name, built)
    task.note("extra", sorted(extra))
    equal = task.options["equal"]  # widths of hidden layers that are all the same
    task.attempt("equal", lambda: task.note("equal parameters", Built(
        make, equal, torch.ones(2, equal[0], dtype=torch.float64)).parameters()))


def examine(task: Task, name: str, built: Built) -> None:
    task.send(f"{name} shape", torch.tensor(built.shape))
    registered = {id(p) for p in built.model.parameters()}
    task.note(f"{name} layers", built.told())
    task.note(f"{name} parameters", built.parameters())
    task.note(f"{name} functions", built.functions())
    task.note(f"{name} without bias", [i for i, node in enumerate(built.linear) if "bias" not in node.tensors])
    task.note(f"{name} unregistered", [i for i, node in enumerate(built.linear)
                                       if any(id(p) not in registered for p in node.tensors.values())])
    if not built.comparable:
        return
    with torch.no_grad():
        for i, node in enumerate(built.linear):
            weight, wanted = node.tensors["weight"], tensor(task, f"{name} weight{i}")
            values = torch.zeros(len(wanted), weight.numel() // len(wanted))
            values[:, :wanted.shape[1]] = wanted
            weight.copy_(values if weight.shape == values.shape else values.T)
            if "bias" in node.tensors:
                node.tensors["bias"].copy_(tensor(task, f"{name} bias{i}").view(node.tensors["bias"].shape))
    with torch.no_grad(), Graph(built.x) as graph:
        built.model(built.x)
    first = next(node.value for node in graph.nodes if node.kind == "linear")
    samples = len(built.x)
    task.send(f"{name} first", first.T if first.shape == (built.sizes[1], samples) else first.reshape(samples, -1))
    y = built.model(built.x)
    for reading, probabilities in READINGS.items():
        p = probabilities(y)
        task.send(f"{name} {reading}", p)
        if p.requires_grad:
            send_gradients(task, f"{name} {reading}", built, (p * tensor(task, f"{name} dout")).sum())


def send_gradients(task: Task, name: str, built: Built, total: torch.Tensor) -> None:
    keys = [(i, kind) for i, node in enumerate(built.linear) for kind in node.tensors]
    leaves = [built.linear[i].tensors[kind] for i, kind in keys]
    gradients = torch.autograd.grad(total, leaves, retain_graph=True, allow_unused=True)
    for (i, kind), gradient in zip(keys, gradients, strict=True):
        if gradient is None:
            continue
        n_in, n_out = built.sizes[i:i + 2]
        if kind == "weight":
            gradient = (gradient if gradient.shape[0] == n_out else gradient.T)[:, :n_in]
        task.send(f"{name} {i} {kind}", gradient.reshape(-1) if kind == "bias" else gradient)
