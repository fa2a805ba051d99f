"""Makes a submission's network as its own training script makes it, with the arguments that the script adds."""

from __future__ import annotations

import contextlib
import inspect
import runpy
from typing import Any
from unittest import mock

from grading.worker.probes_scripts import command_line
from grading.worker.student import Task, submitted

FLAGS = {"--max_steps": "1", "--eval_freq": "1", "--batch_size": "4"}


class Called(BaseException):
    """Ends a script at its call of the network's class; no `except Exception` of the script stops it."""


class Network:
    """A class of the submission: `Network(task, "mlp_pytorch", "MLP", script)(n_inputs, n_hidden, n_classes)`.

    The arguments of the assignment come first. Where the class takes more of them, or refuses these, the script is run
    up to its own call of the class, and what else it passes there is passed here.
    """

    def __init__(self, task: Task, module: str, name: str, script: str):
        self.task, self.script = task, script
        self.network: Any = getattr(submitted(module), name)
        self.call: tuple[list[Any], dict[str, Any]] | None = None
        self.asked = False

    def __call__(self, *sizes: Any) -> Any:
        if len(self.names()) > len(sizes):
            self.ask()
        try:
            return self.make(sizes)
        except TypeError:
            if self.asked:
                raise
            self.ask()
            if self.call is None:
                raise
            return self.make(sizes)

    def names(self) -> list[str]:
        """Names of the constructor's parameters."""
        return list(inspect.signature(self.network.__init__).parameters)[1:]

    def make(self, sizes: tuple[Any, ...]) -> Any:
        if self.call is None:
            return self.network(*sizes)
        given, keywords = self.call
        first = self.names()[:len(sizes)]
        own = [*given[:len(sizes)], *(keywords[name] for name in first[len(given):] if name in keywords)]
        sizes = tuple(in_form(size, other) for size, other in zip(sizes, own, strict=False)) if len(own) == len(
            sizes) else sizes
        return self.network(*sizes, *given[len(sizes):], **{k: v for k, v in keywords.items() if k not in first})

    def ask(self) -> None:
        """Run the script up to its call of the class, once."""
        if self.asked or not self.task.data:  # without data, it may go and fetch some
            return
        self.asked = True
        data = next(iter(self.task.data.values()), None)
        flags = FLAGS | ({"--data_dir": data} if data else {})

        def called(model: Any, *arguments: Any, **keywords: Any) -> None:
            self.call = list(arguments), keywords
            raise Called

        words = [word for flag in flags.items() for word in flag]
        with contextlib.suppress(BaseException), command_line(self.task, self.script, words), \
                mock.patch.object(self.network, "__init__", called):
            runpy.run_path(self.script, run_name="__main__")


def in_form(size: Any, other: Any) -> Any:
    """A list of widths as a tuple or as text, where the script passes one."""
    if isinstance(size, list) and isinstance(other, tuple):
        return tuple(size)
    return ",".join(map(str, size)) if isinstance(size, list) and isinstance(other, str) else size
