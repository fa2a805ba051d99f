"""Probes of questions 3.1, 3.2b and 3.2c: layer normalization by autograd, as a function, as a module on it."""

from __future__ import annotations

import itertools
from typing import Any

import torch
import torch._dynamo  # the first operator under a dispatch mode imports it: two seconds, once, and not in every probe
from torch.utils._python_dispatch import TorchDispatchMode

from grading.worker.student import Task, describe, probe, submitted

FUNCTION = "CustomLayerNormManualFunction"


class Operators(TorchDispatchMode):
    """Names of the operators that reach PyTorch's dispatcher."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.add(str(function))
        return function(*args, **(kwargs or {}))


def tensors(task: Task, *names: str, grad: bool = False) -> list[torch.Tensor]:
    kind = getattr(torch, task.options.get("dtype", "float64"))
    return [torch.tensor(task.arrays[name], dtype=kind, requires_grad=grad) for name in names]


def layer(task: Task, n_neurons: int, *eps: float) -> Any:
    return getattr(submitted("custom_layernorm"), task.options["class"])(n_neurons, *eps)


@probe
def norm_module(task: Task) -> None:
    """Value and gradients of a module with the grader's gamma and beta, and the operators it runs."""
    x, gamma, beta, dout = tensors(task, "x", "gamma", "beta", "dout")
    module = layer(task, x.shape[1], task.options["eps"]).to(x.dtype)
    with torch.no_grad():
        module.gamma.copy_(gamma)
        module.beta.copy_(beta)
    x.requires_grad_()
    with Operators() as operators:
        y = module(x)
        task.send("forward", y)
        task.note("dtype", str(y.dtype).removeprefix("torch."))
        y.backward(dout)
    task.note("operators", sorted(operators.names))
    for name, tensor in (("input", x), ("gamma", module.gamma), ("beta", module.beta)):
        if tensor.grad is not None:
            task.send(name, tensor.grad)


@probe
def norm_parameters(task: Task) -> None:
    """Names, shapes and initial values of a module's parameters."""
    for name, parameter in layer(task, task.options["n_neurons"]).named_parameters():
        if name in ("gamma", "beta"):
            task.send(name, parameter)
        else:
            task.note(f"other parameter {name}", list(parameter.shape))


@probe
def norm_shapes(task: Task) -> None:
    """Which inputs a module refuses, and how."""
    module = layer(task, task.options["n_neurons"])
    task.send("right", module(torch.randn(*task.options["right"])))
    refused: list[str | None] = []
    for shape in task.options["wrong"]:
        try:
            module(torch.randn(*shape))
            refused.append(None)
        except Exception as error:
            refused.append(describe(error))
    task.note("refused", refused)


@probe
def norm_function(task: Task) -> None:
    """Value and gradients of the function, and the operators it runs."""
    function = getattr(submitted("custom_layernorm"), FUNCTION)
    inputs = tensors(task, "x", "gamma", "beta", grad=True)
    [dout] = tensors(task, "dout")
    with Operators() as operators:
        y = function.apply(*inputs, task.options["eps"])
        task.send("forward", y)
        task.note("dtype", str(y.dtype).removeprefix("torch."))
        y.backward(dout)
    task.note("operators", sorted(operators.names))
    for name, tensor in zip(("input", "gamma", "beta"), inputs, strict=True):
        if tensor.grad is not None:
            task.send(name, tensor.grad)


@probe
def norm_needs(task: Task) -> None:
    """What backward returns for each choice of inputs that need a gradient."""
    function = getattr(submitted("custom_layernorm"), FUNCTION)
    [dout] = tensors(task, "dout")
    returned = {}
    for needs in itertools.product((False, True), repeat=3):
        if not any(needs):
            continue
        inputs = [t.requires_grad_(need) for t, need in zip(tensors(task, "x", "gamma", "beta"), needs, strict=True)]
        y = function.apply(*inputs, task.options["eps"])
        with torch.no_grad():
            gradients = function.backward(y.grad_fn, dout)
        returned["".join("01"[need] for need in needs)] = [gradient is not None for gradient in gradients[:3]]
    task.note("returned", returned)


@probe
def norm_saved(task: Task) -> None:
    """The tensors the function keeps for its backward pass."""
    function = getattr(submitted("custom_layernorm"), FUNCTION)
    y = function.apply(*tensors(task, "x", "gamma", "beta", grad=True), task.options["eps"])
    kept = [tensor for tensor in y.grad_fn.saved_tensors if tensor is not None]
    kept += [value for value in vars(y.grad_fn).values() if isinstance(value, torch.Tensor)]
    for i, tensor in enumerate(kept):
        task.send(f"saved {i}", tensor)
    task.note("saved", len(kept))


@probe
def norm_calls(task: Task) -> None:
    """The module, with the grader's own forward and backward put into the submission's function.

    Whatever is right or wrong in the submission's function, a module that calls it gives what the grader's gives.
    """
    module_file = submitted("custom_layernorm")
    function = getattr(module_file, FUNCTION)
    a, b, c, d = (float(v) for v in task.arrays["mix"])

    def forward(ctx: Any, x: torch.Tensor, gamma: torch.Tensor, beta: torch.Tensor, *rest: Any,
                eps: float = 1e-5) -> torch.Tensor:
        ctx.rest = len(rest)
        return a * x + b * gamma + c * beta + d * float(rest[0] if rest else eps)

    def backward(ctx: Any, dout: torch.Tensor) -> tuple:
        return (a * dout, b * dout.sum(0), c * dout.sum(0), *(None,) * ctx.rest)

    function.forward, function.backward = staticmethod(forward), staticmethod(backward)
    function.setup_context = torch.autograd.Function.setup_context
    x, gamma, beta, dout = tensors(task, "x", "gamma", "beta", "dout")
    module = layer(task, x.shape[1], task.options["eps"]).to(x.dtype)
    with torch.no_grad():
        module.gamma.copy_(gamma)
        module.beta.copy_(beta)
    x.requires_grad_()
    y = module(x)
    task.send("forward", y)
    y.backward(dout)
    for name, tensor in (("input", x), ("gamma", module.gamma), ("beta", module.beta)):
        if tensor.grad is not None:
            task.send(name, tensor.grad)
