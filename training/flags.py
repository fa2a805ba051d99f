"""Flags of the training scripts: a dataclass whose fields are the command line, checked in one place.

    @dataclass
    class Config(TrainingFlags):
        dropout: float = flag(0.0, "probability of zeroing a hidden unit", type=fraction)

    config = Config(dropout=0.5)                # from Python: a mistake is a UserError
    config = parse_flags(Config, __doc__)       # from the command line (`script.py`): one line and exit status 2
"""

from __future__ import annotations

import dataclasses
import math
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


class UserError(Exception):
    """Something the user can fix: a line (an argument each) that names it and the way out. Exit status 2."""

    def __str__(self) -> str:  # a file's name, or a value, may hold a line break: an argument stays one line
        return "\n".join(" ".join(str(line).splitlines()) for line in self.args)


def text(value: Any) -> str:
    if "\0" in (characters := str(value)):
        raise ValueError("no name of a file or of anything else has a null character in it")
    return characters


def flag(default: Any, help: str, type: Callable[[Any], Any] = text, choices: list[str] | None = None,
         resumable: bool = False, group: str = "") -> Any:
    """A command-line flag as a dataclass field.

    type: turns what is given into the value, or raises ValueError. resumable: may differ from the checkpoint's on
    --resume. group: its heading in --help.
    """
    return field(default=default, metadata=dict(help=help, type=type, choices=choices, resumable=resumable,
                                                group=group))


def _number(value: Any, kind: Callable, ok: Callable[[Any], bool], what: str) -> Any:
    try:
        number = kind(value)
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"{value!r} is not {what}") from None
    if not ok(number) or (kind is int and not isinstance(value, str) and number != value):
        raise ValueError(f"{value!r} is not {what}")
    return number


def positive_int(value: Any) -> int:
    return _number(value, int, lambda n: 0 < n < 2**63, "a whole number above 0")


def non_negative_int(value: Any) -> int:
    return _number(value, int, lambda n: 0 <= n < 2**63, "a whole number of 0 or more")


def seed_int(value: Any) -> int:
    return _number(value, int, lambda n: 0 <= n < 2**32, "a whole number between 0 and 2^32 - 1")


def positive_float(value: Any) -> float:
    return _number(value, float, lambda x: 0 < x < math.inf, "a finite number above 0")


def non_negative_float(value: Any) -> float:
    return _number(value, float, lambda x: 0 <= x < math.inf, "a finite number of 0 or more")


def fraction(value: Any) -> float:
    return _number(value, float, lambda x: 0 <= x < 1, "a number from 0 up to, not including, 1")


def hidden_units(value: Any) -> list[int]:
    """'200,100' -> [200, 100]; '' -> [] (no hidden layer); 200, as a recipe may have it, -> [200]."""
    if isinstance(value, str):
        value = value.split(",") if value.strip() else []
    units = value if isinstance(value, list | tuple) else [value]
    try:
        return [positive_int(unit) for unit in units]
    except ValueError:
        raise ValueError(f"{value!r} is not a comma-separated list of whole numbers above 0, such as 200,100") from None


@dataclass
class TrainingFlags:
    """The flags of every training script, with the assignment's names and the MLP scripts' defaults."""

    learning_rate: float = flag(1e-3, "step size of the optimizer", type=positive_float)
    max_steps: int = flag(1400, "number of training steps (batches), where --epochs is not given", type=positive_int,
                          resumable=True)
    batch_size: int = flag(200, "images per training step", type=positive_int)
    epochs: int = flag(0, "train this many epochs and evaluate after each; 0 counts in --max_steps",
                       type=non_negative_int, resumable=True)
    eval_freq: int = flag(100, "evaluate the whole test split every so many steps, and after the last one",
                          type=positive_int)
    data_dir: str = flag("./cifar10/cifar-10-batches-py", "folder of the data set's files", resumable=True)
    seed: int = flag(42, "seed of the initial weights, the batch order and dropout", type=seed_int)
    output_dir: str = flag("", "folder of this run; '' for results/<script>/<time>", resumable=True)
    resume: str = flag("", "run folder, or checkpoint in it, to continue from; it brings its own flags",
                       resumable=True)
    validation_size: int = flag(0, "hold out this many training images: they are evaluated in place of the test "
                                   "split, which is then read once, after the last step", type=non_negative_int)

    def __post_init__(self) -> None:
        for f in dataclasses.fields(self):
            value = getattr(self, f.name)
            try:
                setattr(self, f.name, f.metadata["type"](value))
            except ValueError as error:
                raise UserError(f"--{f.name}: {error}") from None
            choices = f.metadata["choices"]
            if choices and value not in choices:
                raise UserError(f"--{f.name}: {value!r} is not one of {', '.join(choices)}")


def script_of(config_class: type) -> str:
    """The name of the script that `config_class` belongs to."""
    return Path(str(sys.modules[config_class.__module__].__file__)).stem
