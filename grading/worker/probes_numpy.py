"""Probes of question 1.2: the modules and the MLP in NumPy."""

from __future__ import annotations

import sys
from itertools import pairwise
from typing import Any

import numpy as np

from grading.worker.student import Task, probe, submitted


def set_linear(module: Any, weight: np.ndarray, bias: np.ndarray) -> bool:
    """Give a LinearModule the grader's weight (out, in) and bias (out,), in the submission's own layout.

    Returns whether its weight is stored as (in, out).
    """
    own = np.shape(module.params["weight"])
    transposed = own == weight.shape[::-1] and own != weight.shape
    module.params["weight"] = np.ascontiguousarray(weight.T) if transposed else weight.copy()
    module.params["bias"] = bias.reshape(np.shape(module.params["bias"])).copy()
    return transposed


def send_linear_grads(task: Task, name: str, module: Any, transposed: bool) -> None:
    weight = np.asarray(module.grads["weight"])
    task.send(f"{name}weight", weight.T if transposed else weight)
    task.send(f"{name}bias", module.grads["bias"])


@probe
def linear(task: Task) -> None:
    """Forward, then backward, of LinearModule with the grader's parameters."""
    weight, bias, x, dout = (task.arrays[key] for key in ("weight", "bias", "x", "dout"))
    module = submitted("modules").LinearModule(weight.shape[1], weight.shape[0])
    transposed = set_linear(module, weight, bias)
    task.send("forward", module.forward(x.copy()))
    task.send("input", module.backward(dout.copy()))
    send_linear_grads(task, "", module, transposed)


@probe
def linear_init(task: Task) -> None:
    """Initial parameters."""
    module = submitted("modules").LinearModule(task.options["in"], task.options["out"])
    task.send("weight", module.params["weight"])
    task.send("bias", module.params["bias"])


@probe
def elementwise(task: Task) -> None:
    """Forward and backward of the module class named in the options."""
    module = getattr(submitted("modules"), task.options["module"])()
    task.send("forward", module.forward(task.arrays["x"].copy()))
    task.send("input", module.backward(task.arrays["dout"].copy()))


@probe
def loss(task: Task) -> None:
    """Forward and backward of CrossEntropyModule."""
    module = submitted("modules").CrossEntropyModule()
    x, y = task.arrays["x"], task.arrays["y"]
    task.send("forward", module.forward(x.copy(), y.copy()))
    task.send("input", module.backward(x.copy(), y.copy()))


@probe
def two_of_each(task: Task) -> None:
    """Forward through two modules of a class, then backward through the first: it must remember its own input."""
    modules = submitted("modules")
    weight, bias, x, other = (task.arrays[key] for key in ("weight", "bias", "x", "other"))
    for name in ("LinearModule", "ELUModule", "SoftMaxModule"):
        def run(name: str = name) -> None:
            size = (weight.shape[1], weight.shape[0]) if name == "LinearModule" else ()
            first, second = getattr(modules, name)(*size), getattr(modules, name)(*size)
            transposed = False
            if size:
                transposed = set_linear(first, weight, bias)
                set_linear(second, weight + 1, bias - 1)
            first.forward(x.copy())
            second.forward(other.copy())
            task.send(f"{name} input", first.backward(task.arrays["dout" if size else "wide_dout"].copy()))
            if size:
                send_linear_grads(task, f"{name} ", first, transposed)
        task.attempt(name, run)


PRINTING = np.set_printoptions.__code__.co_filename


class _Counter:
    """Counts the interpreter's steps, in the submission and in what it calls; turning an array to text is no loop."""

    def __init__(self) -> None:
        self.steps = 0

    def __call__(self, frame: Any, event: str, argument: Any) -> _Counter | None:
        if frame.f_code.co_filename == PRINTING:
            return None
        frame.f_trace_opcodes = True
        frame.f_trace_lines = False
        self.steps += event == "opcode"
        return self


def count_steps(function: Any, *arguments: Any) -> int:
    """Interpreter steps of a call: the cost of its Python loops, whatever else the machine is doing."""
    counter = _Counter()
    sys.settrace(counter)
    try:
        function(*arguments)
    finally:
        sys.settrace(None)
    return counter.steps


@probe
def steps(task: Task) -> None:
    """Interpreter steps of every forward and backward at each (samples, features) of the options."""
    modules = submitted("modules")
    rng = np.random.default_rng(0)
    for name in ("LinearModule", "ELUModule", "SoftMaxModule", "CrossEntropyModule"):
        def run(name: str = name) -> None:
            counts = []
            for samples, features in task.options["sizes"]:
                x, dout = rng.random((2, samples, features)) + 0.1
                module = getattr(modules, name)(*((features, features) if name == "LinearModule" else ()))
                inputs = (x, dout) if name == "CrossEntropyModule" else (x,)
                forward = count_steps(module.forward, *inputs)
                counts.append((forward, count_steps(module.backward, *(inputs if len(inputs) > 1 else (dout,)))))
            task.send(name, np.array(counts))
        task.attempt(name, run)


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
def mlp(task: Task) -> None:
    """Probabilities, loss and every gradient of the MLP with the grader's parameters."""
    made = watch_linear_modules()
    sizes = task.options["sizes"]
    network = submitted("mlp_numpy").MLP(sizes[0], sizes[1:-1], sizes[-1])
    shapes = [sorted(np.shape(module.params["weight"])) for module in made]
    task.note("layers", shapes)
    if shapes != [sorted(pair) for pair in pairwise(sizes)]:
        return
    transposed = [set_linear(module, task.arrays[f"weight{i}"], task.arrays[f"bias{i}"])
                  for i, module in enumerate(made)]
    x, dout = task.arrays["x"], task.arrays["dout"]
    task.send("forward", network.forward(x.copy()))
    network.backward(dout.copy())
    for i, module in enumerate(made):
        send_linear_grads(task, f"{i} ", module, transposed[i])
