"""Probes of question 1.2: the modules and the MLP in NumPy."""

from __future__ import annotations

import _thread
import contextlib
import inspect
import re
import sys
import threading
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from grading.worker.construct import Network
from grading.worker.interface import Parameters, call, initialiser, make, part, put, watch_forward
from grading.worker.student import Absent, Task, probe, submitted
from grading.worker.weights import mixed

MODULES = ("LinearModule", "ELUModule", "SoftMaxModule", "CrossEntropyModule")


def module(task: Task, name: str, *sizes: int) -> Any:
    """An instance of a class of modules.py; a LinearModule of (in, out) features."""
    constructor = part("modules", name)
    arguments: dict[str, Any] = dict(zip(("in_features", "out_features"), sizes, strict=False))
    try:
        return make(constructor, **arguments)
    except Absent:
        if not (extra := extra_arguments(task, constructor, len(sizes))):
            raise
        return make(constructor, extra=extra, **arguments)


def extra_arguments(task: Task, constructor: Any, known: int) -> dict[str, Any]:
    """{name: value} of what the submission's own MLP passes to a module's class beyond the first `known` arguments."""
    seen: dict[str, Any] = {}
    original = initialiser(constructor)
    names = list(inspect.signature(constructor).parameters)

    def __init__(self: Any, *arguments: Any, **keywords: Any) -> None:
        seen.update(dict(zip(names, arguments, strict=False)) | keywords)
        original(self, *arguments, **keywords)

    with mock.patch.object(constructor, "__init__", __init__), contextlib.suppress(Exception):
        network(task, 6, [5], 3)
    return {name: seen[name] for name in names[known:] if name in seen}


def network(task: Task, n_inputs: int, n_hidden: list[int], n_classes: int) -> Any:
    """The MLP; with the arguments that the training script adds where it cannot be made without them."""
    try:
        return make(part("mlp_numpy", "MLP"), n_inputs=n_inputs, n_hidden=n_hidden, n_classes=n_classes)
    except Absent:
        with contextlib.suppress(TypeError):
            return Network(task, "mlp_numpy", "MLP", "train_mlp_numpy.py")(n_inputs, n_hidden, n_classes)
        raise


def linear_module(task: Task) -> tuple[Any, Parameters]:
    """A LinearModule with the grader's weight (out, in) and bias (out,)."""
    weight, bias = task.arrays["weight"], task.arrays["bias"]
    found = module(task, "LinearModule", weight.shape[1], weight.shape[0])
    parameters = Parameters(found, weight.shape[1], weight.shape[0])
    parameters.put(weight, bias)
    return found, parameters


def send_gradients(task: Task, prefix: str, parameters: Parameters) -> None:
    """Gradients as the submission lays them out, and that layout."""
    task.note(f"{prefix}transposed", parameters.transposed)
    for role in ("weight", "bias"):
        def send(role: str = role) -> None:
            value, wrong_name = parameters.gradient(role)
            task.send(f"{prefix}{role}", value)
            if wrong_name:
                task.note(f"{prefix}{role} key", wrong_name)
        task.attempt(f"{prefix}{role}", send)


@probe
def linear(task: Task) -> None:
    """Forward, then backward, of LinearModule with the grader's parameters."""
    found, parameters = linear_module(task)
    run(task, found)
    failed = task.notes.get("input failed")
    send_gradients(task, "", parameters)
    for role in ("weight", "bias"):
        if failed and not np.any(task.sent.get(role, 0)):  # it failed before it filled this one
            task.sent.pop(role, None)
            task.note(f"{role} failed", failed)


@probe
def again(task: Task) -> None:
    """Gradients of a module's first forward and backward, on `other`, and of its second, on `x`.

    Noted is whether the submission clears the linear module's gradients by itself.
    """
    def both(name: str, dout: str) -> None:
        found, parameters = linear_module(task) if name == "LinearModule" else (module(task, name), None)
        for prefix, x in ((f"{name} first ", "other"), (f"{name} ", "x")):
            call(found, "forward", x=task.arrays[x].copy())
            task.send(f"{prefix}input", call(found, "backward", dout=task.arrays[dout].copy()))
            if parameters:
                send_gradients(task, prefix, parameters)

    for name in ("LinearModule", "ELUModule", "SoftMaxModule"):
        task.attempt(name, both, name, "dout" if name == "LinearModule" else "wide_dout")
    sources = [path.read_text(errors="replace") for path in Path().glob("*.py") if path.name in (
        "mlp_numpy.py", "train_mlp_numpy.py")]
    task.note("clears", any(CLEARS.search(source) for source in sources))


# grads that a network or script sets to zero by itself
CLEARS = re.compile(r"zero_?grad|grads?\b.*=\s*(?:0|np\.zeros)|grads?\b.*(?:\*=\s*0|\.fill\(0|\.clear\()")


def run(task: Task, module: Any) -> None:
    """Forward, then backward, of a module; what one of them raises is kept apart from the other."""
    x = task.arrays["x"].copy()
    task.attempt("forward", lambda: task.send("forward", call(module, "forward", x=x)))
    task.note("overwrites", not np.array_equal(x, task.arrays["x"]))
    task.attempt("input", lambda: task.send("input", call(module, "backward", dout=task.arrays["dout"].copy())))


@probe
def linear_init(task: Task) -> None:
    """Initial parameters."""
    n_in, n_out = task.options["in"], task.options["out"]
    found = module(task, "LinearModule", n_in, n_out)
    parameters = Parameters(found, n_in, n_out)
    task.note("misnamed", parameters.misnamed)
    for role, key in parameters.keys.items():
        task.send(role, parameters.params[key])


@probe
def elementwise(task: Task) -> None:
    """Forward and backward of the module class named in the options."""
    run(task, module(task, task.options["module"]))


@probe
def loss(task: Task) -> None:
    """Forward and backward of CrossEntropyModule."""
    found, x, y = module(task, "CrossEntropyModule"), task.arrays["x"], task.arrays["y"]
    task.attempt("forward", lambda: task.send("forward", call(found, "forward", x=x.copy(), y=y.copy())))
    task.attempt("input", lambda: task.send("input", call(found, "backward", x=x.copy(), y=y.copy())))


@probe
def two_of_each(task: Task) -> None:
    """Forward through two modules of a class, then backward through the first: it must remember its own input."""
    x, other = task.arrays["x"], task.arrays["other"]

    def linear() -> None:
        (first, parameters), (second, others) = linear_module(task), linear_module(task)
        others.put(task.arrays["weight"] + 1, task.arrays["bias"] - 1)
        forward_both(first, second)
        task.send("LinearModule input", call(first, "backward", dout=task.arrays["dout"].copy()))
        send_gradients(task, "LinearModule ", parameters)

    def others(name: str) -> None:
        first, second = module(task, name), module(task, name)
        forward_both(first, second)
        task.send(f"{name} input", call(first, "backward", dout=task.arrays["wide_dout"].copy()))

    def forward_both(first: Any, second: Any) -> None:
        call(first, "forward", x=x.copy())
        call(second, "forward", x=other.copy())

    task.attempt("LinearModule", linear)
    for name in ("ELUModule", "SoftMaxModule"):
        task.attempt(name, others, name)


# Files of NumPy that are Python themselves: printing an array, and choosing an order of the products of einsum.
PYTHON_OF_NUMPY = {inspect.unwrap(function).__code__.co_filename for function in (np.set_printoptions, np.einsum_path)}
STEPS_OF_AN_ARRAY = 3  # as many as a turn of a loop has at least


class Counted(np.ndarray):
    """An array that counts the arrays that are computed from it; parts of it, and other shapes of it, are none.

    So that a loop is also seen in C, such as that of `map(weight.dot, x)`.
    """

    made = 0
    __array_priority__ = 1.0  # what is computed with others is Counted as well

    def __array_finalize__(self, source: Any) -> None:
        Counted.made += not isinstance(self.base, Counted)


def sum_of_plain(values: Any, *start: Any, of: Any = sum, **keywords: Any) -> Any:
    """`sum`, which of an array is as good as a function of NumPy's."""
    return of(values.view(np.ndarray) if isinstance(values, Counted) else values, *start, **keywords)


class _Counter:
    """Counts the Python instructions of the submission and of what it calls, but not those of PYTHON_OF_NUMPY."""

    def __init__(self) -> None:
        self.steps = 0

    def __call__(self, frame: Any, event: str, argument: Any) -> _Counter | None:
        if frame.f_code.co_filename in PYTHON_OF_NUMPY or frame.f_code is Counted.__array_finalize__.__code__:
            return None
        frame.f_trace_opcodes = True
        frame.f_trace_lines = False
        self.steps += event == "opcode"
        return self


def count_steps(counter: _Counter, function: Any, *arguments: Any) -> int:
    """Interpreter steps of a call, and some for each array: the cost of its loops, whatever else the machine does."""
    before, arrays = counter.steps, Counted.made
    sys.settrace(counter)
    try:
        function(*arguments)
    finally:
        sys.settrace(None)
    return counter.steps - before + STEPS_OF_AN_ARRAY * (Counted.made - arrays)


def count_in_threads(counter: _Counter) -> None:
    """Count the steps of every thread that is started from now on as well."""
    def counted(start: Any) -> Any:
        def start_counted(function: Any, *more: Any, **keywords: Any) -> Any:
            def run(*arguments: Any, **named: Any) -> Any:
                sys.settrace(counter)
                return function(*arguments, **named)

            return start(run, *more, **keywords)

        return start_counted

    threading.settrace(counter)
    for name in ("start_new_thread", "start_new", "start_joinable_thread"):
        for module, attribute in ((_thread, name), (threading, f"_{name}")):
            if start := getattr(module, attribute, None):
                setattr(module, attribute, counted(start))


@probe
def steps(task: Task) -> None:
    """Steps of every forward and backward at each (samples, features) of the options."""
    rng, counter = np.random.default_rng(0), _Counter()
    count_in_threads(counter)

    def count(name: str, kind: type[np.ndarray]) -> None:
        counts = []
        for samples, features in task.options["sizes"]:
            x, dout = (rng.random((2, samples, features)) + 0.1).view(kind)
            if name == "MLP":
                found, dout = network(task, features, [5], 4), rng.random((samples, 4)).view(kind)
            else:
                found = module(task, name, *((features, features) if name == "LinearModule" else ()))
            forward, backward = ((x, dout), (x, dout)) if name == "CrossEntropyModule" else ((x,), (dout,))
            counts.append((count_steps(counter, found.forward, *forward),
                           count_steps(counter, found.backward, *backward)))
        task.send(name, np.array(counts))

    with mock.patch("builtins.sum", sum_of_plain):
        for name in (*MODULES, "MLP"):
            task.attempt(name, count, name, Counted)
    for name in {*MODULES, "MLP"} - task.sent.keys():  # it takes plain arrays alone
        task.notes.pop(f"{name} failed", None)
        task.attempt(name, count, name, np.ndarray)


def watch_linear_modules() -> list[Any]:
    """Every LinearModule made from now on, in the order they are made."""
    constructor = part("modules", "LinearModule")
    made: list[Any] = []
    init = initialiser(constructor)

    def __init__(module: Any, *arguments: Any, **keywords: Any) -> None:
        init(module, *arguments, **keywords)
        made.append(module)

    constructor.__init__ = __init__
    return made


class Layers:
    """The LinearModules of an MLP in the order of its forward pass, each given its parameters when it is first called.

    task: weight<i> and bias<i> of each layer. sizes: features before and after each.
    """

    def __init__(self, task: Task, sizes: list[int]):
        self.task, self.pairs = task, list(pairwise(sizes))
        self.found: list[Any] = []
        self.parameters: list[Parameters] = []
        self.made = watch_linear_modules()
        constructor = part("modules", "LinearModule")
        watch_forward(constructor, self.add)

    def add(self, module: Any) -> None:
        """The next layer, unless it is one already."""
        if any(module is layer for layer in self.found):
            return
        i = len(self.found)
        self.found.append(module)
        if self.fits(i):
            self.parameters.append(Parameters(module, *self.pairs[i]))
            self.parameters[i].put(self.task.arrays[f"weight{i}"], self.task.arrays[f"bias{i}"])

    def sizes(self) -> list[list[int]]:
        return [size_of(module) for module in self.found]

    def fits(self, i: int) -> bool:
        """Whether the first layers up to `i` have the sizes that they must have."""
        return self.sizes() == [sorted(pair) for pair in self.pairs[:i + 1]]


def size_of(module: Any) -> list[int]:
    """The two numbers of features of a LinearModule, the smaller one first."""
    shapes = [np.shape(value) for value in module.params.values()]
    return sorted(next((shape for shape in shapes if len(shape) == 2 and 1 not in shape), ()))


@probe
def mlp(task: Task) -> None:
    """Probabilities and every gradient of the MLP with the grader's parameters."""
    sizes, x = task.options["sizes"], task.arrays["x"]
    layers = Layers(task, sizes)
    found = network(task, sizes[0], sizes[1:-1], sizes[-1])
    y = call(found, "forward", x=x.copy())
    if not layers.found:  # it uses the parameters of its layers, and not their forward
        for made in layers.made:
            layers.add(made)
        y = call(found, "forward", x=x.copy())
    task.note("layers", layers.sizes())
    if layers.sizes() != [sorted(pair) for pair in layers.pairs]:
        return
    task.send("forward", y)
    call(found, "backward", dout=task.arrays["dout"].copy())
    for i, parameters in enumerate(layers.parameters):
        send_gradients(task, f"{i} ", parameters)


@probe
def mlp_equal(task: Task) -> None:
    """How many LinearModules an MLP uses whose hidden layers are all of one width."""
    made, used, sizes = watch_linear_modules(), list[Any](), task.options["sizes"]
    watch_forward(part("modules", "LinearModule"),
                  lambda module: used.extend([module] * (not any(module is other for other in used))))
    found = network(task, sizes[0], sizes[1:-1], sizes[-1])
    call(found, "forward", x=np.ones((3, sizes[0])))
    task.note("modules", len(used or made))  # it may use the parameters of its layers, and not their forward


@probe
def mlp_calls(task: Task) -> None:
    """Which modules the MLP calls with what, whatever they compute: the grader's own functions are in their place.

    The stand-ins compute nothing that a network would. An activation used in two places is noted as shared.
    """
    sizes = task.options["sizes"]
    file = submitted("modules")
    order: list[Any] = []
    calls: dict[str, list[Any]] = {"ELUModule": [], "SoftMaxModule": []}

    def place(layer: Any) -> int:
        return next(i for i, other in enumerate(order) if other is layer)

    def linear_forward(self: Any, x: Any, *more: Any, **keywords: Any) -> np.ndarray:
        order.append(self)
        return mixed(x, sizes[place(self) + 1], place(self))

    def linear_backward(self: Any, dout: Any, *more: Any, **keywords: Any) -> np.ndarray:
        task.send(f"{place(self)} dout", dout)
        return mixed(dout, sizes[place(self)], -place(self))

    def activation(name: str, shift: float) -> tuple[Callable[..., Any], Callable[..., Any]]:
        def forward(self: Any, x: Any, *more: Any, **keywords: Any) -> np.ndarray:
            calls[name].append(self)
            return np.sin(np.asarray(x) + shift)

        def backward(self: Any, dout: Any, *more: Any, **keywords: Any) -> np.ndarray:
            return np.sin(np.asarray(dout) - shift)

        return forward, backward

    stand_ins = {"LinearModule": (linear_forward, linear_backward),
                 **{name: activation(name, shift) for name, shift in task.options["shifts"].items()}}
    for name, (forward, backward) in stand_ins.items():
        constructor: Any = getattr(file, name, None) or type(name, (), {})
        put(constructor, forward=forward, backward=backward)
        constructor.__init__ = lenient(constructor.__init__)
        setattr(file, name, constructor)
    found = network(task, sizes[0], sizes[1:-1], sizes[-1])
    task.send("forward", call(found, "forward", x=task.arrays["x"].copy()))
    call(found, "backward", dout=task.arrays["dout"].copy())
    task.note("shared", len(calls["ELUModule"]) - len({id(module) for module in calls["ELUModule"]}))


def lenient(init: Callable[..., None]) -> Callable[..., None]:
    """A constructor whose own mistakes do not end it: they are not the MLP's."""
    def __init__(self: Any, *arguments: Any, **keywords: Any) -> None:
        with contextlib.suppress(Exception):
            if init is not object.__init__:
                init(self, *arguments, **keywords)

    return __init__
