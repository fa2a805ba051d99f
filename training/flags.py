"""Flags of the training scripts: a dataclass whose fields are the command line, checked in one place.

    @dataclass
    class Config(TrainingFlags):
        dropout: float = flag(0.0, "probability of zeroing a hidden unit", type=fraction)

    config = Config(dropout=0.5)                # from Python: a mistake is a UserError
    config = parse_flags(Config, __doc__)       # from the command line (`script.py`): one line and exit status 2

What a flag needs of the others to have an effect stands beside it. One that has none is refused (unless it is 0, 'off'
or its default, which ask for nothing), so that config.json records no flag that did nothing:

    momentum: float = flag(0.0, "momentum", type=fraction, needs="--optimizer sgd|nesterov")
    expansion: int = flag(2, "width inside a block", type=positive_int, needs="--blocks")         # other than 0
    fc: list[int] = flag("84", "hidden layers", type=hidden_units, needs="--model study and --epochs 0")
"""

from __future__ import annotations

import dataclasses
import math
import sys
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cifar10_utils import Splits
from imagefiles.dataset import with_home
from training.datasets import DATASETS


class UserError(Exception):
    """Something the user can fix: a line (an argument each) that names it and the way out. Exit status 2."""

    def __str__(self) -> str:  # a file's name, or a value, may hold a line break: an argument stays one line
        return "\n".join(" ".join(str(line).splitlines()) for line in self.args)


class IdleFlag(UserError):
    """A flag that has no effect with the others given. name: of the flag. needs: what it needs of the others."""

    def __init__(self, name: str, needs: str):
        super().__init__(f"--{name} has no effect: it needs {needs}")
        self.name, self.needs = name, needs

    def needs_one_of(self, names: Collection[str]) -> bool:
        """Whether one of the flags `names` is among those that it needs."""
        return any(f"--{name}" in self.needs.split() for name in names)


def text(value: Any) -> str:
    if "\0" in (characters := str(value)):
        raise ValueError("no name of a file or of anything else has a null character in it")
    return characters


def path(value: Any) -> str:
    """The name of a file or folder; ~ is the home folder. Raises ValueError where there is none."""
    return with_home(text(value))


GROUPS = ("assignment", "network", "optimization", "images", "run")  # the headings of --help, in this order


def flag(default: Any, help: str, type: Callable[[Any], Any] = text, choices: list[str] | None = None,
         resumable: bool = False, group: str = "run", needs: str = "") -> Any:
    """A command-line flag as a dataclass field.

    type: turns what is given into the value, or raises ValueError. resumable: may differ from the checkpoint's on
    --resume. group: its heading in --help, one of GROUPS. needs: without which it has no effect: conditions such as
    "--blocks" (is set), "--blocks 0" or "--optimizer sgd|adam", joined by "and" or by "or".
    """
    return field(default=default, metadata=dict(help=help, type=type, choices=choices, resumable=resumable,
                                                group=group, needs=needs))


def redefined(base: type, name: str, default: Any, help: str = "", needs: str = "") -> Any:
    """The flag `name` of the dataclass `base`, with another default; `{help}` in `help` stands for what it said."""
    (old,) = (f.metadata for f in dataclasses.fields(base) if f.name == name)
    return field(default=default, metadata={**old, "help": (help or "{help}").format(help=old["help"]),
                                            "needs": needs or old["needs"]})


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
    units = value
    if isinstance(value, str):
        units = value.split(",") if value.strip() else []
    elif not isinstance(value, list | tuple):
        units = [value]
    try:
        return [positive_int(unit) for unit in units]
    except ValueError:
        raise ValueError(f"{value!r} is not a comma-separated list of whole numbers above 0, such as 200,100") from None


@dataclass
class Flags:
    """What checks the flags of a dataclass, each as it says itself and all of them together."""

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
        if not getattr(self, "resume", ""):  # a run that was saved may have flags that did nothing; they do nothing now
            refuse_idle_flags(self)


    def default_of(self, name: str) -> Any:
        """What the flag `name` is where it is not given."""
        (found,) = (f for f in dataclasses.fields(self) if f.name == name)
        return found.metadata["type"](found.default)


def refuse_idle_flags(config: Flags) -> None:
    """Raises IdleFlag where a flag asks for something that is not its default and has no effect with the others."""
    def met(condition: str) -> bool:
        name, _, values = condition.removeprefix("--").partition(" ")
        value = getattr(config, name)
        return str(value) in values.split("|") if values else bool(value)

    for f in dataclasses.fields(config):
        needs, value = f.metadata["needs"], getattr(config, f.name)
        asks = value not in (0, "off", config.default_of(f.name))
        if asks and needs and not all(any(map(met, either.split(" or "))) for either in needs.split(" and ")):
            raise IdleFlag(f.name, needs)


@dataclass
class RunFlags(Flags):
    """The flags of whatever makes a run."""

    eval_images: int = flag(0, "evaluate only the first so many images, for a look; 0 for all of them",
                            type=non_negative_int)
    eval_at_start: str = flag("off", "evaluate before the first step, too", choices=["on", "off"])
    tensorboard: str = flag("off", "write the metrics for TensorBoard, too, into the run's folder", resumable=True,
                            choices=["on", "off"])


@dataclass
class TrainingFlags(RunFlags):
    """The flags of every training script, with the assignment's names and the MLP scripts' defaults."""

    learning_rate: float = flag(1e-3, "step size of the optimizer", type=positive_float, group="assignment")
    max_steps: int = flag(1400, "number of training steps (batches)", type=positive_int, resumable=True,
                          group="assignment", needs="--epochs 0")
    batch_size: int = flag(200, "images per training step", type=positive_int, group="assignment")
    eval_freq: int = flag(100, "evaluate the whole test split every so many steps, and after the last one",
                          type=positive_int, group="assignment", needs="--epochs 0")
    data_dir: str = flag(DATASETS["cifar10"].folder, "folder of the data set's files; with another --dataset, "
                         "./ and its name unless given", type=path, resumable=True, group="assignment")
    epochs: int = flag(0, "train this many epochs and evaluate after each; 0 counts in --max_steps",
                       type=non_negative_int, resumable=True)
    seed: int = flag(42, "seed of the initial weights, the batch order and dropout", type=seed_int)
    output_dir: str = flag("", "folder of this run; '' for results/<script>/<time>", type=path, resumable=True)
    resume: str = flag("", "run folder, or checkpoint in it, to continue from; it brings its own flags",
                       type=path, resumable=True)
    validation_size: int = flag(0, "hold out this many training images: they are evaluated instead of the test "
                                   "split, which is then read once, after the last step", type=non_negative_int)
    dataset: str = flag("cifar10", "which images", choices=list(DATASETS), group="images")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.data_dir == TrainingFlags.data_dir:
            self.data_dir = DATASETS[self.dataset].folder

    def load_data(self, one_hot: bool = False) -> Splits:
        """The splits that these flags name, with pixels on the scale 0..255 times --pixel_scale."""
        return DATASETS[self.dataset].load(self.data_dir, one_hot=one_hot, validation_size=self.validation_size,
                                           seed=self.seed, scale=getattr(self, "pixel_scale", 1.0))


def script_of(config_class: type) -> str:
    """The name of the script that `config_class` belongs to."""
    return Path(str(sys.modules[config_class.__module__].__file__)).stem
