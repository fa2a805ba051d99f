"""Probe of the training scripts: run one with flags, and watch what its model is given and what changes its weights.

Recorded are the model's forward passes (how many images, in which mode and form, from which split), the updates, the
folder the data came from, and the class the trained model gives to images whose labels the worker never has. What is
printed earns nothing; it shows whether the accuracy that is reported is that of a part of the images alone.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import inspect
import os
import shutil
import signal
import sys
import traceback
import types
from collections.abc import Iterator
from typing import Any

import numpy as np

from grading.worker import marks
from grading.worker.elsewhere import OWN_FOLDER, compiled
from grading.worker.images import Images, Numbers
from grading.worker.interface import contained, initialiser, put, watch_forward
from grading.worker.student import Absent, Task, describe, probe, submitted, without_places

FORWARD, BACKWARD, UPDATE = 0, 1, 2
MOST_FOLLOWED = 6  # updates whose learning rate is measured
READABLE = 1e-5  # of a parameter's size: of smaller changes float32 keeps too few digits
OPTIONS = ("momentum", "dampening", "nesterov", "weight_decay", "betas", "eps", "amsgrad")  # of optimizers
SAME_SCALE = 1.5  # images that are no more than so many times as large are prepared alike
IMAGE_FORMS = ((4, 3072), (4, 3, 32, 32))


class Stop(BaseException):
    """Ends a script from within; no `except Exception` of its own holds it up."""


class Enough(Stop):
    """It has made far more updates than it was to make."""


class Watch:
    """Wraps a model class in place and records what its models do, until `on` is cleared.

    A network that raises on its own, `broken`, does not end the script: the watch answers where it raises, so that the
    script is judged by what it does itself.

    events: (kind, images, of the training split, of the test split, test images new since the last update, whether
    any part of the model was in training mode, whether all were, a number that stands for the images, how many of the
    new test images have a bright mark). A BACKWARD event
    repeats the forward pass that it belongs to. most: updates after which the script is ended.
    """

    def __init__(self, model_class: Any, marked: bool, most: int | None):
        self.events: list[tuple[int, ...]] = []
        self.made: list[dict[str, Any]] = []
        self.model: Any = None
        self.input: Any = None  # of the last forward pass that came to its end
        self.loss: tuple[Any, Any] | None = None  # the first training output, and the loss's gradient at it
        self.images: Images | None = None  # for runs of which the images are looked at
        self.first: tuple[int, ...] = ()  # the event of the pass that the loss is of
        self.on = True
        self.inside = False  # a pass, forward or backward, which may call itself for each layer
        self.marked, self.most, self.updates = marked, most, 0
        self.seen: set[int] = set()
        self.initialise, self.run = initialiser(model_class), model_class.forward
        self.broken = self.raises_alone(model_class)

        def __init__(model: Any, *arguments: Any, **keywords: Any) -> None:
            self.make(model, *arguments, **keywords)
            if self.on:
                self.made.append({"arguments": [plain(a) for a in (*arguments, *keywords.values())]})
                self.model = model

        def watched(model: Any, x: Any, *arguments: Any, **keywords: Any) -> Any:
            if not self.on or self.inside or len(np.shape(x)) < 2:
                return self.run(model, x, *arguments, **keywords)
            if self.most is not None and self.updates > self.most:
                raise Enough
            event = self.forward(model, x)
            self.inside = True
            try:
                output = self.output(model, x, *arguments, **keywords)
            finally:
                self.inside = False
            self.input = x  # which the model takes
            if self.images:
                with contextlib.suppress(Exception):  # an output of another kind: then nothing is known of the pass
                    self.images.add(event, self.updates, numbers(x), numbers(output), self.loss is None)
            return self.returned(output, event)

        put(model_class, __init__=__init__, forward=watched)

    def make(self, model: Any, *arguments: Any, **keywords: Any) -> None:
        self.initialise(model, *arguments, **keywords)

    def raises_alone(self, model_class: Any) -> bool:
        """Whether a network with two hidden layers can be made, and then raises on images of every form."""
        try:
            model_class(3072, [7, 5], 10)
        except Exception:  # perhaps it needs arguments that only the script knows
            return False
        return not any(self.runs(model_class, shape) for shape in IMAGE_FORMS)

    def runs(self, model_class: Any, shape: tuple[int, ...]) -> bool:
        """Whether a network goes forward and backward on images of this shape."""
        raise NotImplementedError

    def output(self, model: Any, x: Any, *arguments: Any, **keywords: Any) -> Any:
        try:
            return self.run(model, x, *arguments, **keywords)
        except Exception:
            if not self.broken:
                raise
            return self.answer(model, x)

    def answer(self, model: Any, x: Any) -> Any:
        """An output, instead of a broken network's."""
        raise NotImplementedError

    def forward(self, model: Any, x: Any) -> tuple[int, ...]:
        """Record a forward pass; its event."""
        self.model = model
        images = numbers(x)
        split, bright = marks.read(images) if self.marked else (np.zeros(len(images)), np.zeros(len(images), bool))
        is_test = split == marks.TEST
        test = {hash(image.tobytes()): light for image, light in zip(images[is_test], bright[is_test], strict=True)}
        new = test.keys() - self.seen
        self.seen |= new
        event = (len(images), int((split == marks.TRAIN).sum()), int(is_test.sum()), len(new), *self.modes(model),
                 hash(images[:1].tobytes() + images[-1:].tobytes()) % 2**62, sum(int(test[image]) for image in new))
        self.events.append((FORWARD, *event))
        return event

    def modes(self, model: Any) -> tuple[int, int]:
        return 1, 1

    def returned(self, output: Any, event: tuple[int, ...]) -> Any:
        """What the model returns, on its way to the script."""
        return output

    def changed(self, kind: int, event: tuple[int, ...] = (0,) * 8) -> None:
        """Record a backward pass or an update."""
        self.events.append((kind, *event))
        if self.images and kind == BACKWARD:
            self.images.trained(event)
            self.first = self.first or event
        self.seen.clear()
        self.updates += kind == UPDATE

    def send(self, task: Task) -> None:
        task.send("events", np.array(self.events, np.int64).reshape(-1, 9))
        task.note("models", self.made)
        for name, value in zip(("output", "output gradient"), self.loss or (), strict=False):
            task.send(name, value)
        if self.images:
            task.send("passes", np.array(self.images.passes, float).reshape(-1, 9))
            task.send("labels", self.images.labels.get(self.first, np.zeros(0, int)))


class Rate:
    """Reads a learning rate off parameters that change by -rate times their gradients: {name: (value, gradient)}.

    value: that of the first change. followed: of each of the first few changes, by parameter, the rate, how much of
    the change is something else (the norm of the rest over its norm), and how much of it may be rounding. late: changes
    after the next forward pass.
    """

    def __init__(self) -> None:
        self.followed: list[dict[str, list[float]]] = []
        self.late = 0
        self.value: float | None = None
        self.unchanged: list[str] = []  # parameters with a gradient that the update leaves out
        self.uphill: list[str] = []  # those that it changes the other way
        self.before: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        self.rounding: dict[str, float] = {}  # of the parameters, relative

    def start(self, before: dict[str, tuple[np.ndarray, np.ndarray]]) -> None:
        self.rounding = {name: float(np.finfo(np.result_type(value, np.float16)).eps)
                         for name, (value, _) in before.items()}
        self.before = {name: (np.array(value, float), np.array(gradient, float))
                       for name, (value, gradient) in before.items()}

    def measure(self, now: dict[str, tuple[np.ndarray, np.ndarray]], late: bool = False) -> None:
        """To be called whenever the parameters may have been changed: the first change counts.

        late: whether a forward pass has come in between.
        """
        if not self.before or now.keys() != self.before.keys():
            return
        changes = {name: value - now[name][0] for name, (value, _) in self.before.items()}
        if any(change.any() for change in changes.values()):
            self.follow(changes, late)
            self.before = {}

    def follow(self, changes: dict[str, np.ndarray], late: bool) -> None:
        found = {}
        for name, (value, gradient) in self.before.items():
            size = np.linalg.norm(changes[name])
            if gradient.any() and size > READABLE * np.linalg.norm(value):
                rate = float(changes[name] @ gradient / (gradient @ gradient))
                rest = np.linalg.norm(changes[name] - rate * gradient)
                rounding = self.rounding[name] * (np.linalg.norm(value) / size + 1)
                found[name] = [rate, float(rest / size), float(rounding)]
        self.followed.append(found)
        self.late += late
        if self.value is None:
            self.first(changes)

    def first(self, changes: dict[str, np.ndarray]) -> None:
        """Read the rate off changes that are more than rounding; a change too small to show is not one left out."""
        rates = {name: float(changes[name] @ gradient / (gradient @ gradient))
                 for name, (_, gradient) in self.before.items() if gradient.any()}
        changed = [name for name in rates if changes[name].any()]
        exact = [name for name in changed
                 if np.linalg.norm(changes[name]) > READABLE * np.linalg.norm(self.before[name][0])]
        if changed:
            self.value = float(np.median(np.abs([rates[name] for name in exact or changed])))
            self.unchanged = [name for name, (value, gradient) in self.before.items() if name not in changed
                              and (self.value * np.abs(gradient) > self.rounding[name] * np.abs(value)).any()]
            self.uphill = [name for name, rate in rates.items() if rate < -self.value / 2]


class NumpyWatch(Watch):
    """Watches mlp_numpy.MLP: an update is a call of `backward`; the learning rate is read off the linear layers."""

    def __init__(self, marked: bool, most: int | None) -> None:
        network = submitted("mlp_numpy").MLP
        linear = submitted("modules").LinearModule
        super().__init__(network, marked, most)
        self.layers: list[Any] = []  # in the order in which a forward pass uses them
        self.last_output: Any = None
        self.rate = Rate()
        self.made_layers: list[Any] = []
        watch_forward(linear, self.used)
        init, backward = initialiser(linear), network.backward

        def made(module: Any, *arguments: Any, **keywords: Any) -> None:
            init(module, *arguments, **keywords)
            self.made_layers.append(module)

        def watched(model: Any, *arguments: Any, **keywords: Any) -> Any:
            if self.inside:
                return backward(model, *arguments, **keywords)
            if self.on:
                self.measure(late=True)
                if self.loss is None and (given := [*arguments, *keywords.values()]):
                    self.loss = self.last_output, np.array(given[0])
            self.inside = True
            try:
                result = backward(model, *arguments, **keywords)
            except Exception:
                if not self.broken:
                    raise
                result = None
                self.fill_gradients()
            finally:
                self.inside = False
            if self.on:
                self.updates += 1
                last = next((event[1:] for event in reversed(self.events) if event[0] == FORWARD), (0,) * 8)
                self.changed(BACKWARD, last)
                if len(self.rate.followed) < MOST_FOLLOWED:
                    with contextlib.suppress(Exception):
                        self.rate.start(self.values())
            return result

        linear.__init__ = made
        put(network, backward=watched)

    def used(self, module: Any) -> None:
        """Note that a forward pass uses a linear layer."""
        if self.on and not any(module is layer for layer in self.layers):
            self.layers.append(module)

    def runs(self, model_class: Any, shape: tuple[int, ...]) -> bool:
        with contextlib.suppress(Exception):
            model = model_class(3072, [7, 5], 10)
            model.backward(np.full_like(model.forward(np.ones(shape)), 0.1))
            return True
        return False

    def answer(self, model: Any, x: Any) -> np.ndarray:
        return np.full((len(x), 10), 0.1)

    def fill_gradients(self) -> None:
        """Fill in gradients to update by, instead of a broken network's."""
        for module in self.made_layers:
            for key, value in module.params.items():
                module.grads[key] = np.full(np.shape(value), 1e-3)

    def values(self) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """Parameters and gradients of the layers, where both have one size."""
        return {f"{key} of linear layer {i}": (np.ravel(value), np.ravel(module.grads[key]))
                for i, module in enumerate(self.layers, 1) for key, value in module.params.items()
                if np.size(module.grads.get(key)) == np.size(value)}

    def measure(self, late: bool = False) -> None:
        if self.rate.before:
            with contextlib.suppress(Exception):  # layers of another build: then the rate cannot be told
                self.rate.measure(self.values(), late)

    def forward(self, model: Any, x: Any) -> tuple[int, ...]:
        self.measure()
        return super().forward(model, x)

    def returned(self, output: Any, event: tuple[int, ...]) -> Any:
        if self.loss is None:
            self.last_output = np.array(output)  # a copy: the script may change it
        return output

    def send(self, task: Task) -> None:
        self.measure()
        super().send(task)
        task.attempt("layers", lambda: task.note("layers", [
            sorted(np.shape(module.params["weight"])) for module in self.layers]))
        task.note("not finite", not all(np.isfinite(value).all() for value, _ in self.values().values()))
        task.attempt("shared", lambda: task.note("shared", self.shared()))
        task.note("learning rate", self.rate.value)
        task.note("followed", self.rate.followed)
        task.note("late", self.rate.late)
        task.note("unchanged", self.rate.unchanged)
        task.note("uphill", self.rate.uphill)

    def shared(self) -> bool:
        """Whether two layers have a parameter in common, which is then updated for each of them."""
        arrays = [value for module in self.made_layers for value in module.params.values()]
        return len({id(array) for array in arrays}) < len(arrays)

    def predict(self, images: np.ndarray) -> np.ndarray:
        x = images.reshape(-1, *self.input.shape[1:]).astype(self.input.dtype)
        return np.argmax(self.model.forward(x), axis=1)


def drops(part: Any) -> bool:
    """Whether it is a dropout layer, by its probability."""
    probability = getattr(part, "p", None)
    return isinstance(probability, float | int) and probability > 0


class TorchWatch(Watch):
    """Watches a torch model: an update is a step of an optimizer, or else a backward pass.

    stub: answer in the model's place, for runs of which only the calls are looked at. Then the mode of every part of
    the model counts, otherwise that of dropout and normalization, where it makes a difference.
    """

    def __init__(self, model: tuple[str, str], marked: bool, most: int | None, stub: bool):
        import torch
        from torch.optim.optimizer import register_optimizer_step_post_hook  # a closure has run by then

        self.torch, self.stub = torch, stub
        super().__init__(getattr(submitted(model[0]), model[1]), marked, most)
        self.optimizers: list[list[Any]] = []
        self.rate = Rate()
        self.given: dict[str, Any] = {}  # tensors in the place of parameters, by functional_call, in the last pass
        self.gradients: dict[str, np.ndarray] = {}
        self.without_gradient = 0  # updates
        self.kept = self.added = 0  # backward passes on top of gradients: the first after an update, and others
        self.first_since_update = True
        self.options: list[str] = []  # of the first optimizer, that are not its class's defaults
        self.left_out: list[str] = []  # parameters that the optimizer does not know
        self.uphill: list[str] = []
        self.trains_another = False  # network, of which nothing is known

        def step(optimizer: Any, *_: Any) -> None:
            if self.on and self.model is None:
                self.trains_another = True
            elif self.on:
                self.changed(UPDATE)
                group = optimizer.param_groups[0]
                self.optimizers.append([type(optimizer).__name__, float(group["lr"])])
                self.first_since_update = True
                if len(self.optimizers) == 1:
                    usual = inspect.signature(type(optimizer)).parameters
                    self.options = [f"{name}={group[name]}" for name in OPTIONS if name in group and name in usual
                                    and group[name] != usual[name].default]
                updated = [p for group in optimizer.param_groups for p in group["params"]]
                self.without_gradient += not any(p.grad is not None and p.grad.any() for p in updated)
                known = {id(p) for p in updated}
                self.uphill = ["every parameter"] if group.get("maximize") else []
                self.left_out = [name for name, p in self.model.named_parameters() if id(p) not in known]

        register_optimizer_step_post_hook(step)
        torch.manual_seed(0)

    def make(self, model: Any, *arguments: Any, **keywords: Any) -> None:
        try:
            super().make(model, *arguments, **keywords)
        except Exception as error:
            inside = len(traceback.extract_tb(error.__traceback__)) > 2  # else the call does not fit the class
            if not self.stub or not inside:
                raise
            self.torch.nn.Module.__init__(model)
            model.stand_in = self.torch.nn.Linear(1, 10)
        self.register(model)

    def register(self, model: Any) -> None:
        """Register the layers and parameters that lie in a list or dictionary, so that the script can train them.

        That they are not is for the check of the network's parameters to say.
        """
        known = {id(part) for part in (*model.modules(), *model.parameters())}
        lost = [part for part in contained(vars(model), (self.torch.nn.Module, self.torch.nn.Parameter))
                if id(part) not in known]
        for i, part in enumerate(lost):
            add = model.add_module if isinstance(part, self.torch.nn.Module) else model.register_parameter
            add(f"registered_by_the_grader_{i}", part)

    def modes(self, model: Any) -> tuple[int, int]:
        parts = [part for part in model.modules()
                 if self.stub or "Norm" in type(part).__name__ or drops(part)]
        return int(any(part.training for part in parts)), int(all(part.training for part in parts))

    def output(self, model: Any, x: Any, *arguments: Any, **keywords: Any) -> Any:
        """The model's output or, stubbed, ten of the input's numbers times a sum of its smallest parameters."""
        if not self.stub:
            return super().output(model, x, *arguments, **keywords)
        parameters = [p for p in model.parameters() if p.is_floating_point() and p.numel()]
        try:  # what a convolution would say of this input
            weight = self.torch.zeros(1, 3, 1, 1, dtype=parameters[0].dtype, device=parameters[0].device)
            self.torch.nn.functional.conv2d(x[:1], weight)
        except Exception:
            super().output(model, x[:2], *arguments, **keywords)  # unless the model takes it
        return self.answer(model, x)

    def runs(self, model_class: Any, shape: tuple[int, ...]) -> bool:
        for kind in (self.torch.float32, self.torch.float64):
            with contextlib.suppress(Exception):
                model_class(3072, [7, 5], 10).to(kind)(self.torch.ones(shape, dtype=kind)).sum().backward()
                return True
        return self.stub  # then its own forward pass is not run at all

    def answer(self, model: Any, x: Any) -> Any:
        parameters = [p for p in model.parameters() if p.is_floating_point() and p.numel()]
        small = [p for p in parameters if p.ndim < 2] or parameters  # a step that changes no others takes no time
        scale = 1 + (sum(p[(0,) * p.ndim] for p in small) if self.torch.is_grad_enabled() else 0)
        first = 10 * self.updates % 3000  # others after each update: another accuracy at each evaluation
        return x.reshape(len(x), -1)[:, first:first + 10].float() / 100 * scale

    def returned(self, output: Any, event: tuple[int, ...]) -> Any:
        """Learn which forward pass a loss is taken of, and the gradient of the script's own loss at its output."""
        outputs = [one for one in contained(output, (self.torch.Tensor,)) if one.requires_grad] if self.on else []
        values = [numbers(one).copy() for one in outputs] if self.loss is None else []
        first: int | None = None

        def arrived(number: int, gradient: Any) -> None:
            nonlocal first
            first = number if first is None else first
            if number != first:  # of several outputs one tells of the pass
                return
            if self.loss is None and values:
                self.loss = values[number], numbers(gradient).copy()
            if self.on:
                old = any(p.grad is not None and p.grad.any() for p in self.model.parameters())
                self.kept += old and self.first_since_update
                self.added += old and not self.first_since_update  # gradients of parts of a batch, or of two losses
                self.first_since_update = False
                self.changed(BACKWARD, event)
                self.updates += not self.optimizers

        for number, one in enumerate(outputs):
            one.register_hook(functools.partial(arrived, number))
        return output

    def forward(self, model: Any, x: Any) -> tuple[int, ...]:
        self.given = {name: p for name, p in model.named_parameters() if not isinstance(p, self.torch.nn.Parameter)}
        if not self.optimizers and not self.stub and self.rate.value is None and self.torch.is_grad_enabled():
            self.follow(model)
        return super().forward(model, x)

    def follow(self, model: Any) -> None:
        """Read the learning rate of a script that updates by hand."""
        named = {name: p for name, p in model.named_parameters() if p.requires_grad or name in self.given}
        if self.gradients:
            self.rate.before = {name: (value, self.gradients.get(name, gradient))
                                for name, (value, gradient) in self.rate.before.items()}
            self.rate.measure({name: (numbers(p).ravel(), np.zeros(0)) for name, p in named.items()})
        for name, p in named.items() if not self.gradients else ():
            if p.requires_grad and (name in self.given or not self.rate.before):
                p.register_hook(lambda g, name=name: self.gradients.__setitem__(name, numbers(g).ravel().copy()))
        self.rate.start({name: (numbers(p).ravel(), np.zeros(p.numel())) for name, p in named.items()})

    def send(self, task: Task) -> None:
        if self.model is not None and self.gradients and not self.optimizers:
            with contextlib.suppress(Exception):  # parameters of another build: then the rate cannot be told
                self.follow(self.model)
        super().send(task)
        task.note("optimizers", self.optimizers[:1])
        task.note("trains another", self.trains_another)
        task.note("options", self.options)
        task.note("last learning rate", self.optimizers[-1][1] if self.optimizers else None)
        task.note("learning rate", self.rate.value)
        task.note("unchanged", self.left_out or self.rate.unchanged)
        task.note("uphill", self.uphill or self.rate.uphill)
        task.note("without gradient", self.without_gradient)
        task.note("gradients kept", self.kept + (self.added if not self.optimizers else 0))
        if self.model is not None:
            task.note("layers", [sorted(p.shape) for p in self.model.parameters() if p.ndim == 2])
            task.note("not finite", not all(p.isfinite().all() for p in self.model.parameters()))

    def predict(self, images: np.ndarray) -> np.ndarray:
        self.model.eval()
        with self.torch.no_grad():
            x = self.torch.from_numpy(images.reshape(-1, *self.input.shape[1:]).copy())
            x = x.to(self.input.device, self.input.dtype)
            given = {name: self.torch.from_numpy(numbers(p)).to(x.device) for name, p in self.given.items()}
            return self.torch.func.functional_call(self.model, given, (x,)).argmax(1).cpu().numpy()


def numbers(x: Any) -> np.ndarray:
    """An array; also of a tensor within a function that torch.func transforms, where PyTorch itself gives none."""
    if not hasattr(x, "detach"):
        return np.asarray(x)
    torch = sys.modules["torch"]
    x = x.detach().cpu()
    while torch._C._functorch.is_functorch_wrapped_tensor(x):
        x = torch._C._functorch.get_unwrapped(x)
    with torch._C._DisableFuncTorch():
        return (x.float() if x.dtype == torch.bfloat16 else x).numpy()


def alike(images: np.ndarray, others: np.ndarray) -> np.ndarray:
    """The images in the scale of others, which a script may have prepared in its own way."""
    (mean, size), (other_mean, other_size) = ((float(part.mean(dtype=float)), float(part.std(dtype=float)))
                                              for part in (images, others))
    if not other_size or (1 / SAME_SCALE < other_size / size < SAME_SCALE and abs(mean - other_mean) < size / 2):
        return images
    return ((images - mean) / size * other_size + other_mean).astype(images.dtype)


def plain(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    if isinstance(value, np.integer | np.floating):
        return value.item()
    return value if isinstance(value, (int, float, str, bool, type(None))) else type(value).__name__


@contextlib.contextmanager
def command_line(task: Task, script: str, flags: list[str]) -> Iterator[None]:
    """The script's arguments; a flag that it does not know is let pass. Notes the parser's own defaults."""
    parser: Any = argparse.ArgumentParser
    saved, strict, lenient = sys.argv, parser.parse_args, parser.parse_known_args

    def noted(self: Any, *arguments: Any, **keywords: Any) -> Any:
        found, rest = lenient(self, *arguments, **keywords)
        task.note("defaults", {action.dest: plain(action.default) for action in self._actions})
        task.note("unknown flags", [word for word in rest if word.startswith("--")])
        return found, rest

    sys.argv, parser.parse_known_args = [script, *flags], noted
    parser.parse_args = lambda *arguments, **keywords: noted(*arguments, **keywords)[0]
    try:
        yield
    finally:
        sys.argv, parser.parse_args, parser.parse_known_args = saved, strict, lenient


def data_at_home(folder: str) -> None:
    """Let the data also lie where the assignment's default has them, seen from here and from the folder above."""
    for link in (OWN_FOLDER, f"../{OWN_FOLDER}"):
        os.makedirs(os.path.dirname(link), exist_ok=True)
        if os.path.isdir(link) and not os.path.islink(link):
            shutil.rmtree(link)
        if not os.path.isdir(link):
            laid_at(folder, link)


def laid_at(folder: str, link: str) -> None:
    """Let the files of `folder` also lie in `link`."""
    try:
        os.symlink(folder, link)
    except OSError:  # Windows asks for rights
        os.makedirs(link)
        for name in os.listdir(folder):
            os.link(os.path.join(folder, name), os.path.join(link, name))


def watch_folders() -> set[str]:
    """The folders from which batch files are opened from now on."""
    found: set[str] = set()

    def opened(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open" and isinstance(arguments[0], str) and "data_batch_" in arguments[0]:
            found.add(os.path.abspath(os.path.dirname(arguments[0])))

    sys.addaudithook(opened)
    return found


def stop_in_time(seconds: float) -> None:
    """End the script before the worker's own clock does, so that what was recorded until then is not lost."""
    def stop(*_: Any) -> None:
        raise Stop(f"it takes longer than {seconds:.0f} s of processor time")

    if hasattr(signal, "setitimer"):  # not on Windows
        signal.signal(signal.SIGPROF, stop)
        signal.setitimer(signal.ITIMER_PROF, seconds)


def run(task: Task, name: str, flags: list[str]) -> tuple[Any, types.ModuleType]:
    """Run the script `name`: its exit status, or what it raised, without the places of this worker; and its module."""
    status: Any = 0
    module = sys.modules["__main__"] = types.ModuleType("__main__")
    module.__file__ = name
    try:
        with command_line(task, name, flags), open(name, "rb") as file:
            exec(compiled(file.read(), name), module.__dict__)
    except SystemExit as exit:
        status = 0 if exit.code is None else exit.code
    except Enough:
        task.note("stopped", True)
    except Stop as stop:
        status = str(stop)
    except Exception as error:
        status = describe(error)
        traceback.print_exc()
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_PROF, 0)
    if isinstance(status, str):  # an exit's text may be anything
        return without_places(status.replace(flags[-1], "DATA_DIR")), module
    return status if isinstance(status, int) else 1, module


def accuracies(function: Any, predictions: np.ndarray, labels: np.ndarray, torch: Any) -> list[float]:
    """What the script's accuracy function makes of predictions (N, 10) and of labels (N,), in the forms in use."""
    forms = [(predictions, np.eye(10)[labels]), (predictions, labels)]
    if torch is not None:
        tensors = [tuple(torch.tensor(part) for part in form) for form in forms]
        forms = [*tensors, *forms, (tensors[0][0], forms[0][1]), (tensors[1][0], forms[1][1])]
    found = []
    for form in forms:
        with contextlib.suppress(Exception):
            found.append(float(function(*form)))
    return found


@probe
def script(task: Task) -> None:
    """Run options['script'] with options['flags'] and the data set options['data'].

    model: (module, class) of a torch model, None for the NumPy MLP. stub: see `TorchWatch`. most: updates after which
    the run is ended. seconds: of processor time.
    """
    options = task.options
    name, folder = options["script"], task.data[options["data"]]
    if not os.path.exists(name):
        raise Absent(f"{name} is not in the submission")
    marked = options["data"] == "marked"
    data_at_home(folder)
    most = options["most"]
    watch: NumpyWatch | TorchWatch = (NumpyWatch(marked, most) if options["model"] is None else
                                      TorchWatch(options["model"], marked, most, options["stub"]))
    said = Numbers() if options["images"] else None
    watch.images = Images(folder) if options["images"] else None
    folders = watch_folders()
    stop_in_time(options["seconds"])
    with said.taken(name) if said else contextlib.nullcontext():
        status, module = run(task, name, [*options["flags"], "--data_dir", folder])
    watch.on = False
    if said:
        said.take_all(list(vars(module).values()))
        task.send("printed", np.array(sorted(said.printed), float).reshape(-1, 2))
        task.send("kept", np.array(sorted(said.kept), float))
    task.note("status", status)
    if callable(accuracy := getattr(module, "accuracy", None)):
        task.note("accuracies", accuracies(accuracy, task.arrays["predicted"], task.arrays["labels"],
                                           getattr(watch, "torch", None)))
    task.note("data", [folder == found for found in sorted(folders)])
    watch.send(task)
    if "hidden" in task.arrays and watch.model is not None and watch.input is not None:
        def predict(name: str, images: np.ndarray) -> None:
            task.send(name, np.concatenate([watch.predict(images[i:i + 500]) for i in range(0, len(images), 500)]))

        images = alike(task.arrays["hidden"], numbers(watch.input))
        task.attempt("predictions", predict, "predictions", images)
        if len(watch.input.shape) == 2:  # the script may have laid the pixels out channels last
            last = images.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1).reshape(len(images), -1)
            task.attempt("channels last", predict, "predictions, channels last", last)
