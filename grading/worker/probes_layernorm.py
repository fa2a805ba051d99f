"""Probes of questions 3.1, 3.2b and 3.2c: layer normalization by autograd, as a function, as a module on it."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import inspect
import itertools
import sys
import tracemalloc
from collections.abc import Sequence
from typing import Any

import torch
import torch._dynamo  # the first operator under a dispatch mode imports it: two seconds, once, and not in every probe
from torch.autograd.graph import get_gradient_edge  # holds what a node keeps, which PyTorch 2.10 frees with the output

from grading.worker.interface import contained, fits, make, part, watch_returns
from grading.worker.operators import FUNCTION, Operators
from grading.worker.student import Absent, Task, describe, probe, submitted

N_NEURONS = 3  # of a module that is only watched
SLOPES = {"slope": 1e-4, "slope of a small step": 1e-6}  # of central differences; the second is gradcheck's
WIDER = 30  # times the features of an input whose memory is counted: a number for each row does not matter then


def tensors(task: Task, *names: str, grad: bool = False) -> list[torch.Tensor]:
    kind = getattr(torch, task.options.get("dtype", "float64"))
    return [torch.tensor(task.arrays[name], dtype=kind, requires_grad=grad) for name in names]


def layer(name: str, n_neurons: int, *eps: float) -> Any:
    """A module of the submission, with an eps where it can be given one."""
    function = getattr(submitted("custom_layernorm"), FUNCTION, None)
    if isinstance(function, type) and issubclass(function, torch.autograd.Function):
        watch_returns(function)
    constructor = part("custom_layernorm", name)
    if eps and fits(constructor, n_neurons, *eps):
        return constructor(n_neurons, *eps)
    if eps and "eps" in inspect.signature(constructor).parameters:
        return constructor(n_neurons, eps=eps[0])
    return make(constructor, n_neurons=n_neurons)


def gamma_and_beta(module: torch.nn.Module) -> tuple[str, str]:
    """The attributes that are gamma and beta: of those names, else the parameters that start as ones and as zeros."""
    if hasattr(module, "gamma") and hasattr(module, "beta"):
        return "gamma", "beta"
    named = dict(module.named_parameters())
    ones = [name for name, parameter in named.items() if (parameter == 1).all()]
    zeros = [name for name, parameter in named.items() if (parameter == 0).all()]
    if len(ones) == len(zeros) == 1:
        return ones[0], zeros[0]
    if len(named) == 2:
        first, second = named
        return first, second
    wanted = [repr(name) for name in ("gamma", "beta") if not hasattr(module, name)]
    raise Absent(f"{type(module).__name__} has {', '.join(map(repr, named)) or 'no parameters'}, expected "
                 f"{', '.join(wanted)}")


def attribute(module: torch.nn.Module, path: str) -> Any:
    """The tensor at a dotted path."""
    for name in path.split("."):
        module = getattr(module, name)
    return module


def put(module: torch.nn.Module, path: str, value: torch.Tensor) -> torch.Tensor:
    """Set a parameter, or a tensor that should be one; the tensor that takes part.

    The value has the submission's own shape. Another number of numbers is for the check of parameters to tell.
    """
    own = attribute(module, path)
    if not isinstance(own, torch.Tensor):
        raise Absent(f"{path} is a {type(own).__name__}, expected an nn.Parameter")
    value = value.reshape(own.shape) if own.numel() == value.numel() else value
    if isinstance(own, torch.nn.Parameter):
        own.data = value
        return own
    owner, _, name = path.rpartition(".")
    value.requires_grad_()
    setattr(attribute(module, owner) if owner else module, name, value)
    return value


def send_gradients(task: Task, *inputs: torch.Tensor, otherwise: str = "No gradient arrives at {}") -> None:
    """Of the input, gamma and beta. otherwise: what is said of one without."""
    for name, tensor in zip(("input", "gamma", "beta"), inputs, strict=True):
        if tensor.grad is None:
            task.note(f"{name} failed", f"Absent: {otherwise.format(name)}")
        else:
            task.send(name, tensor.grad)


def prepared(task: Task) -> tuple[Any, list[torch.Tensor], torch.Tensor]:
    """A module with the grader's gamma and beta, the input, gamma and beta, and the upstream gradient."""
    x, gamma, beta, dout = tensors(task, "x", "gamma", "beta", "dout")
    module = layer(task.options["class"], x.shape[1], task.options["eps"]).to(x.dtype)
    names = gamma_and_beta(module)
    own = [put(module, name, value) for name, value in zip(names, (gamma, beta), strict=True)]
    return module, [x.requires_grad_(), *own], dout


@probe
def norm_module(task: Task) -> None:
    """Value and gradients of a module with the grader's gamma and beta, and the operators it runs."""
    operators = Operators()
    module, inputs, dout = prepared(task)
    with operators:
        y = module(inputs[0])
        task.send("forward", y)
        task.note("dtype", str(y.dtype).removeprefix("torch."))
        y.backward(dout)
    operators.note(task)
    send_gradients(task, *inputs)


@probe
def norm_parameters(task: Task) -> None:
    """Initial values of gamma and beta, in the submission's own shape, and whether they are parameters."""
    module = layer(task.options["class"], task.options["n_neurons"])
    parameters = {id(parameter) for parameter in module.parameters()}
    for role, name in zip(("gamma", "beta"), gamma_and_beta(module), strict=True):
        own = attribute(module, name)
        task.send(role, own)
        if id(own) not in parameters:
            task.note(f"{role} is not a parameter", True)


@probe
def norm_shapes(task: Task) -> None:
    """Which of the inputs a module refuses, and how; the outputs of the others, by their number.

    Also whether one of a single neuron takes inputs of more, which only a check of the shape refuses: they broadcast.
    """
    module = layer(task.options["class"], task.options["n_neurons"])
    refused: list[str | None] = []
    for number, x in task.arrays.items():
        try:
            task.send(number, module(torch.tensor(x, dtype=torch.float32)))
            refused.append(task.notes.get(f"{number} failed"))
        except Exception as error:
            refused.append(describe(error))
    task.note("refused", refused)
    single = layer(task.options["class"], 1)
    try:
        single(torch.ones(4, 1))
        single(torch.randn(4, 3))
        task.note("broadcasts", True)
    except Exception:
        pass


class Stopped(BaseException):
    """Ends a module at its call of the function."""


class Call:
    """How to call the submission's function: as its own module does, and else `apply(input, gamma, beta, eps)`.

    shapes: of gamma and beta, None for (n_neurons,). eps: whether it is passed on.
    """

    def __init__(self) -> None:
        self.function = part("custom_layernorm", FUNCTION)
        if not (isinstance(self.function, type) and issubclass(self.function, torch.autograd.Function)):
            raise Absent(f"{FUNCTION} is not a torch.autograd.Function")
        self.shapes: list[Any] = [None, None]
        with_context = self.function.setup_context is torch.autograd.Function.setup_context
        self.eps = fits(self.function.forward, *range(4 + with_context))
        arguments = self.seen()
        if len(arguments) >= 3 and all(isinstance(argument, torch.Tensor) for argument in arguments[:3]):
            self.shapes = [argument.shape if argument.numel() == N_NEURONS else None for argument in arguments[1:3]]
            self.eps = self.eps and (len(arguments) > 3 or self.takes_eps(arguments))

    def takes_eps(self, arguments: Sequence[torch.Tensor]) -> bool:
        """Whether backward returns enough for an eps as well, which the module does not pass."""
        try:
            inputs = [argument.detach().clone().requires_grad_() for argument in arguments]
            self.function.apply(*inputs, 1e-5).sum().backward()
        except RuntimeError as error:
            return "incorrect number of gradients" not in str(error)
        except Exception:
            pass
        return True

    def seen(self) -> Sequence[Any]:
        """The arguments of the module's own call; empty where it makes none."""
        found: list[Any] = []

        def apply(*arguments: Any, **keywords: Any) -> None:
            found.extend([*arguments, *keywords.values()])
            raise Stopped

        self.function.apply = apply
        try:
            layer("CustomLayerNormManualModule", N_NEURONS)(torch.randn(3, N_NEURONS))
        except (Exception, Stopped):
            pass
        finally:
            del self.function.apply
        return found

    def inputs(self, task: Task, grad: bool = True) -> list[torch.Tensor]:
        """x, gamma and beta."""
        x, gamma, beta = tensors(task, "x", "gamma", "beta")
        shaped = [value if shape is None else value.reshape([-1 if n == N_NEURONS else 1 for n in shape])
                  for value, shape in zip((gamma, beta), self.shapes, strict=True)]
        return [tensor.requires_grad_(grad) for tensor in (x, *shaped)]

    def __call__(self, inputs: Sequence[torch.Tensor], eps: float) -> torch.Tensor:
        return self.function.apply(*inputs, *([eps] if self.eps else []))


@probe
def norm_function(task: Task) -> None:
    """Value and gradients of the function, and the operators it runs."""
    operators = Operators()
    function = Call()
    inputs = function.inputs(task)
    [dout] = tensors(task, "dout")
    given = dict(zip(("input", "gamma", "beta", "grad_output"), (*inputs, dout), strict=True))
    copies = {name: tensor.detach().clone() for name, tensor in given.items()}
    with operators:
        y = function(inputs, task.options["eps"])
        task.send("forward", y)
        task.note("dtype", str(y.dtype).removeprefix("torch."))
        y.backward(dout)
    task.note("overwritten", [name for name, copy in copies.items() if not torch.equal(given[name], copy)])
    operators.note(task, function.function.__name__)
    send_gradients(task, *inputs, otherwise="{} gets None where a gradient is wanted")
    if y.dtype == torch.float64:
        task.attempt("slope", send_slopes, task, function, inputs, dout)


def send_slopes(task: Task, function: Call, inputs: list[torch.Tensor], dout: torch.Tensor) -> None:
    """Slopes of the value along `dout`, by steps of two sizes: that they are alike shows that no number is rounded."""
    x, *others = inputs
    with torch.no_grad():
        for name, step in SLOPES.items():
            higher, lower = (function([x + h * dout, *others], task.options["eps"]) for h in (step, -step))
            task.send(name, (higher - lower) / (2 * step))


@probe
def norm_needs(task: Task) -> None:
    """The gradients that backward returns for each choice of inputs that need one: '101 input' and the like."""
    function = Call()
    [dout] = tensors(task, "dout")
    for needs in itertools.product((False, True), repeat=3):
        if not any(needs):
            continue
        task.note("needed", [name for name, need in zip(("input", "gamma", "beta"), needs, strict=True) if need])
        inputs = [t.requires_grad_(need) for t, need in zip(function.inputs(task, False), needs, strict=True)]
        y = function(inputs, task.options["eps"])
        with torch.no_grad():
            gradients = function.function.backward(y.grad_fn, dout)
        for name, gradient in zip(("input", "gamma", "beta"), gradients, strict=False):
            if gradient is not None:
                task.send(f"{''.join('01'[need] for need in needs)} {name}", gradient)


@probe
def norm_saved(task: Task) -> None:
    """The tensors the function keeps for its backward pass, and how many numbers each block of their memory holds."""
    function = Call()
    edge = get_gradient_edge(function(function.inputs(task), task.options["eps"]))
    node: Any = edge.node
    kept = contained([node.saved_tensors, vars(node)], (torch.Tensor,))
    blocks = {}
    for i, tensor in enumerate(kept):
        task.send(f"saved {i}", tensor)
        storage = tensor.untyped_storage()
        blocks[storage.data_ptr()] = storage.nbytes() // tensor.element_size()
    task.note("saved", list(blocks.values()))
    task.note("attributes", sorted(name for name, value in vars(node).items() if contained([value], (torch.Tensor,))))
    held(task, function)


class Allocated(ctypes.Structure):
    """What glibc's mallinfo2 tells."""

    _fields_ = [(name, ctypes.c_size_t) for name in ("arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks",
                                                     "fsmblks", "uordblks", "fordblks", "keepcost")]


def allocated() -> int:
    """Bytes that this process has from malloc, whoever holds them; 0 where that is not told."""
    tell = getattr(ctypes.CDLL(None), "mallinfo2", None) if sys.platform == "linux" else None
    if tell is None:
        return 0
    tell.restype = Allocated
    told = tell()
    return int(told.uordblks + told.hblkhd) + shared()


def shared() -> int:
    """Bytes that this process shares with others, or could; 0 where that is not told."""
    with contextlib.suppress(OSError, ValueError, IndexError), open("/proc/self/status") as file:
        return 1024 * sum(int(line.split()[1]) for line in file if line.startswith("RssShmem:"))
    return 0


def held(task: Task, function: Call) -> None:
    """Note how many times the size of a large input the process holds for the backward pass, besides that input.

    Memory is counted, by PyTorch and by Python, so that it does not matter where a tensor is kept, and by which thread.
    """
    x, *others = function.inputs(task, False)
    inputs = [x.repeat(200, WIDER), *(torch.tile(other, [WIDER if n == x.shape[1] else 1 for n in other.shape])
                                      for other in others)]
    inputs = [tensor.requires_grad_() for tensor in inputs]
    function(inputs, task.options["eps"])  # what is made once is made by now, such as room for matrix products
    function(function.inputs(task), task.options["eps"])  # and a place of the last call's alone holds little again
    gc.collect()
    tracemalloc.start()
    before = allocated()
    edge = get_gradient_edge(function(inputs, task.options["eps"]))
    node: Any = edge.node
    gc.collect()
    more = max(allocated() - before, tracemalloc.get_traced_memory()[0])
    tracemalloc.stop()
    memory = inputs[0].untyped_storage()
    keeps = any(tensor.untyped_storage().data_ptr() == memory.data_ptr()
                for tensor in contained([node.saved_tensors, vars(node)], (torch.Tensor,)))
    task.note("held", round(more / memory.nbytes() + keeps, 2))
    if goes_back(function, function.inputs(task), task.options["eps"]):
        goes_back(function, inputs, task.options["eps"], must=True)  # with what it keeps of such an input, too


def goes_back(function: Call, inputs: list[torch.Tensor], eps: float, must: bool = False) -> bool:
    """Whether the backward pass ends well. must: raise what it raises."""
    y = function(inputs, eps)
    try:
        y.backward(torch.ones_like(y))
    except Exception:
        if must:
            raise
        return False
    return True


@probe
def norm_calls(task: Task) -> None:
    """The module, with the grader's own forward and backward put into the submission's function.

    Whatever is right or wrong in the submission's function, a module that calls it gives what the grader's gives.
    """
    function = part("custom_layernorm", FUNCTION)
    a, b, c, d = (float(v) for v in task.arrays["mix"])

    def forward(ctx: Any, x: torch.Tensor, gamma: torch.Tensor, beta: torch.Tensor, *rest: Any,
                eps: float = 1e-5) -> torch.Tensor:
        ctx.rest, ctx.shapes = len(rest), (gamma.shape, beta.shape)
        for role, value in (("input", x), ("gamma", gamma), ("beta", beta)):
            task.send(f"given {role}", value)
        task.note("given eps", float(rest[0]) if rest else None)
        return a * x + b * gamma.reshape(-1) + c * beta.reshape(-1) + d * float(rest[0] if rest else eps)

    def backward(ctx: Any, dout: torch.Tensor) -> tuple:
        summed = dout.sum(0)
        return (a * dout, b * summed.reshape(ctx.shapes[0]), c * summed.reshape(ctx.shapes[1]), *(None,) * ctx.rest)

    function.forward, function.backward = staticmethod(forward), staticmethod(backward)
    function.setup_context = torch.autograd.Function.setup_context
    module, inputs, dout = prepared(task)
    y = module(inputs[0])
    task.send("forward", y)
    y.backward(dout)
    send_gradients(task, *inputs)
