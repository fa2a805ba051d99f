"""Probe of the training scripts: run one with flags, and watch what its model is given and what changes its weights.

What is printed counts for nothing. Recorded are the model's forward passes (how many images, in which mode, from
which split), the updates, and the class the trained model gives to images whose labels the worker never has.
"""

from __future__ import annotations

import contextlib
import os
import runpy
import sys
import traceback
from typing import Any

import numpy as np

from grading.worker.student import Absent, Task, describe, probe, submitted

FORWARD, UPDATE = 0, 1
RED = 32 * 32  # numbers of an image's first channel


class Watch:
    """Wraps a model class in place and keeps a list of events: (kind, rows, training mode, gradient enabled)."""

    def __init__(self, model_class: Any):
        self.events: list[tuple[int, int, int, int]] = []
        self.brightness: list[np.ndarray] = []  # of each forward pass: mean of the first channel, per image
        self.outputs: list[int] = []
        self.made: list[dict[str, Any]] = []
        self.model: Any = None
        self.input_shape: tuple[int, ...] = ()
        self.on = True
        initialise, forward = model_class.__init__, model_class.forward

        def __init__(model: Any, *arguments: Any, **keywords: Any) -> None:
            initialise(model, *arguments, **keywords)
            if self.on:
                self.made.append({"arguments": [plain(a) for a in (*arguments, *keywords.values())]})
                self.model = model

        def watched(model: Any, x: Any, *arguments: Any, **keywords: Any) -> Any:
            if self.on and hasattr(x, "shape") and len(x.shape) > 1:
                self.forward(model, x)
            return self.returned(forward(model, x, *arguments, **keywords))

        model_class.__init__, model_class.forward = __init__, watched

    def forward(self, model: Any, x: Any) -> None:
        self.model, self.input_shape = model, tuple(x.shape[1:])
        flat = x.detach().cpu().flatten(1).float().numpy() if hasattr(x, "detach") else np.reshape(x, (len(x), -1))
        self.brightness.append(np.asarray(flat[:, :RED], np.float64).mean(axis=1))
        training = getattr(model, "training", True)
        self.events.append((FORWARD, len(flat), int(bool(training)), int(self.gradient_enabled())))

    def returned(self, output: Any) -> Any:
        """What the model returns, on its way to the script."""
        return output

    def gradient_enabled(self) -> bool:
        return True

    def update(self) -> None:
        self.events.append((UPDATE, 0, 0, 0))

    def send(self, task: Task) -> None:
        task.send("events", np.array(self.events, np.int64).reshape(-1, 4))
        task.send("brightness", np.concatenate([np.zeros(0), *self.brightness]))
        task.note("models", self.made)


class NumpyWatch(Watch):
    """Watches mlp_numpy.MLP: an update is a call of `backward`; the learning rate is read off the last layer."""

    def __init__(self) -> None:
        network = submitted("mlp_numpy").MLP
        super().__init__(network)
        modules = submitted("modules")
        self.layers: list[Any] = []
        self.shapes: list[list[int]] = []
        self.first: tuple[np.ndarray, np.ndarray] | None = None
        self.rate: float | None = None
        linear, backward = modules.LinearModule.__init__, network.backward

        def __init__(module: Any, *arguments: Any, **keywords: Any) -> None:
            linear(module, *arguments, **keywords)
            self.layers.append(module)
            self.shapes.append(sorted(np.shape(module.params["weight"])))

        def watched(model: Any, *arguments: Any, **keywords: Any) -> Any:
            result = backward(model, *arguments, **keywords)
            if self.on:
                self.update()
                if self.first is None and self.layers:
                    module = self.layers[-1]
                    self.first = flat(module.params), flat(module.grads)
            return result

        modules.LinearModule.__init__, network.backward = __init__, watched

    def forward(self, model: Any, x: Any) -> None:
        self.measure_rate()
        super().forward(model, x)

    def measure_rate(self) -> None:
        if self.first is not None and self.rate is None:
            before, gradient = self.first
            if gradient.any():
                self.rate = float((before - flat(self.layers[-1].params)) @ gradient / (gradient @ gradient))

    def send(self, task: Task) -> None:
        self.measure_rate()
        super().send(task)
        task.note("layers", self.shapes)
        task.note("learning rate", self.rate)

    def predict(self, images: np.ndarray) -> np.ndarray:
        return np.argmax(self.model.forward(images.reshape(-1, *self.input_shape)), axis=1)


class TorchWatch(Watch):
    """Watches a torch model: an update is a step of an optimizer, or else a backward pass."""

    def __init__(self, module: str, name: str):
        import torch
        from torch.optim.optimizer import register_optimizer_step_pre_hook

        super().__init__(getattr(submitted(module), name))
        self.torch = torch
        self.optimizers: list[list[Any]] = []
        self.loss: tuple[Any, Any] | None = None  # the first training output, and the loss's gradient at it

        def step(optimizer: Any, *_: Any) -> None:
            if self.on:
                self.update()
                self.optimizers.append([type(optimizer).__name__, float(optimizer.param_groups[0]["lr"])])

        register_optimizer_step_pre_hook(step)
        torch.manual_seed(0)

    def gradient_enabled(self) -> bool:
        return self.torch.is_grad_enabled()

    def returned(self, output: Any) -> Any:
        """Learn the gradient of the script's own loss at the first output that a loss is computed from."""
        if self.on and self.loss is None and getattr(output, "requires_grad", False):
            value = output.detach().clone()

            def arrived(gradient: Any) -> None:
                self.loss = self.loss or (value, gradient.detach().clone())

            output.register_hook(arrived)
        return output

    def send(self, task: Task) -> None:
        super().send(task)
        if self.loss is not None:
            for name, value in zip(("output", "output gradient"), self.loss, strict=True):
                task.send(name, value)
        task.note("optimizers", self.optimizers[:1])
        if self.model is not None:
            task.note("layers", [sorted(layer.weight.shape) for layer in self.model.modules()
                                 if isinstance(layer, self.torch.nn.Linear)])

    def predict(self, images: np.ndarray) -> np.ndarray:
        self.model.eval()
        with self.torch.no_grad():
            x = self.torch.from_numpy(images.reshape(-1, *self.input_shape).copy())
            return self.model(x.to(next(self.model.parameters()).device)).argmax(1).cpu().numpy()


def flat(tensors: dict[str, Any]) -> np.ndarray:
    """A layer's weight and bias in one row, copied."""
    return np.concatenate([np.ravel(np.array(tensors[key], float)) for key in ("weight", "bias")])


def plain(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    return value if isinstance(value, (int, float, str, bool, type(None))) else type(value).__name__


@contextlib.contextmanager
def command_line(script: str, flags: list[str]):
    saved = sys.argv
    sys.argv = [script, *flags]
    try:
        yield
    finally:
        sys.argv = saved


@probe
def script(task: Task) -> None:
    """Run options['script'] with options['flags'] ('{name}' stands for the folder of data set `name`)."""
    name = task.options["script"]
    if not os.path.exists(name):
        raise Absent(f"{name} is not in the submission")
    watch = NumpyWatch() if task.options["model"] is None else TorchWatch(*task.options["model"])
    flags = [task.data[f[1:-1]] if f[1:-1] in task.data and f[0] == "{" else f for f in task.options["flags"]]
    status: Any = 0
    try:
        with command_line(name, flags):
            runpy.run_path(name, run_name="__main__")
    except SystemExit as exit:
        status = 0 if exit.code is None else exit.code
    except Exception as error:
        status = describe(error)
        traceback.print_exc()
    watch.on = False
    task.note("status", status if isinstance(status, (int, str)) else 1)
    watch.send(task)
    if "hidden" in task.arrays and watch.model is not None:
        images = task.arrays["hidden"]
        parts = [watch.predict(images[i:i + 500]) for i in range(0, len(images), 500)]
        task.send("predictions", np.concatenate(parts))

