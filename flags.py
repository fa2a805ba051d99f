"""Flags of the training scripts: a dataclass whose fields are the command line, checked in one place.

    @dataclass
    class Config(TrainingFlags):
        dropout: float = flag(0.0, "probability of zeroing a hidden unit", type=fraction)

    config = parse_flags(Config, __doc__)       # from the command line; a mistake is one line and exit status 2
    config = Config(dropout=0.5)                # from Python: the same checks, as UserError

A recipe is a file of flags: recipes/NAME.toml, or a .toml or .json file anywhere, with a table `flags` and the name of
the `script` they are for. `--recipe` reads it; flags on the command line still stand above it.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import os
import sys
import tomllib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

RECIPES = Path(__file__).parent / "recipes"


class UserError(Exception):
    """Something the user can put right: a line (an argument each) that names it and the way out. Exit status 2."""

    def __str__(self) -> str:  # a file's name, or a value, may hold a line break: an argument stays one line
        return "\n".join(" ".join(str(line).splitlines()) for line in self.args)


def text(value: Any) -> str:
    if "\0" in (characters := str(value)):
        raise ValueError("no name of a file or of anything else has a null character in it")
    return characters


def flag(default: Any, help: str, type: Callable[[Any], Any] = text, choices: list[str] | None = None,
         resumable: bool = False) -> Any:
    """A command-line flag as a dataclass field. `resumable`: may differ from the checkpoint's on --resume."""
    return field(default=default, metadata=dict(help=help, type=type, choices=choices, resumable=resumable))


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


class _Parser(argparse.ArgumentParser):
    """argparse, but a mistake is one line on stderr instead of a page of usage."""

    def error(self, message: str) -> Any:
        self.exit(2, f"{self.prog}: {message} (see --help)\n")


def parse_flags(config_class: type, description: str, argv: list[str] | None = None) -> Any:
    """Flags of the command line -> config. With --resume, the checkpoint's flags stand where none is given."""
    parser = _Parser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter,
                     allow_abbrev=False, argument_default=argparse.SUPPRESS)
    for f in dataclasses.fields(config_class):
        shown = f.default if not isinstance(f.default, str) or f.default else "''"
        choices = f.metadata["choices"]
        parser.add_argument(f"--{f.name}", metavar="{" + ",".join(choices) + "}" if choices else f.name.upper(),
                            help=f"{f.metadata['help']} (default: {shown})".replace("%", "%%"))
    names = [name for name, recipe in recipes().items() if recipe["script"] == script_of(config_class)]
    parser.add_argument("--recipe", metavar="RECIPE", help="flags from a file, under those of the command line: a "
                        f".toml or .json file{', or one of ' if names else ''}{', '.join(names)}")
    given = vars(parser.parse_args(argv))
    if "max_steps" in given:  # stands above the epochs of a recipe or of the run that is resumed
        given.setdefault("epochs", 0)
    recipe = given.pop("recipe", "")
    if not given.get("resume"):
        return config_class(**{**(recipe_flags(recipe, config_class) if recipe else {}), **given})
    if recipe:
        raise UserError("--recipe: a run that is resumed brings its own flags; leave one of them out")
    saved = saved_flags(Path(given["resume"]), config_class)
    config = config_class(**{**saved, "output_dir": "", **given})
    refuse_changed_flags(config, config_class(**saved), given["resume"])
    return config


def script_of(config_class: type) -> str:
    """The name of the script that `config_class` belongs to."""
    return Path(str(sys.modules[config_class.__module__].__file__)).stem


def read_recipe(path: Path) -> dict[str, Any]:
    """A recipe file as a table {'script', 'about', 'flags'}. Raises UserError."""
    try:
        text = path.read_text()
        recipe = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except OSError as error:
        raise UserError(f"--recipe: {path} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"--recipe: {path} is not {path.suffix[1:].upper()}: {error}") from None
    kinds = {"script": str, "flags": dict}
    if not isinstance(recipe, dict) or not all(isinstance(recipe.get(key), kind) for key, kind in kinds.items()):
        raise UserError(f"--recipe: {path} has no `script` and table of `flags`, so it is not a recipe; "
                        f"see {RECIPES.name}/study-best.toml")
    return recipe


def recipes() -> dict[str, dict[str, Any]]:
    """The recipes that come with this package, by name."""
    return {path.stem: read_recipe(path) for path in sorted(RECIPES.glob("*.toml"))}


def recipe_flags(name: str, config_class: type) -> dict[str, Any]:
    """The flags of the recipe `name`, of this package or a file. Raises UserError."""
    path = Path(name) if Path(name).suffix in (".toml", ".json") else RECIPES / f"{name}.toml"
    if not os.path.exists(path):  # which, unlike Path.exists, takes a name that is too long
        raise UserError(f"--recipe: there is no {name}; there are {', '.join(recipes()) or 'none'}, or give a file")
    recipe = read_recipe(path)
    if recipe["script"] != script_of(config_class):
        raise UserError(f"--recipe: {name} is for {recipe['script']}.py")
    if unknown := sorted(set(recipe["flags"]) - {f.name for f in dataclasses.fields(config_class)}):
        raise UserError(f"--recipe: {name} has a flag {unknown[0]!r}, which {recipe['script']}.py does not know")
    return recipe["flags"]


def saved_flags(resume: Path, config_class: type) -> dict[str, Any]:
    """The flags of the run at `resume` (a run folder or a checkpoint in it), from its config.json."""
    folder = resume if os.path.isdir(resume) else resume.parent
    if not os.path.exists(resume):
        raise UserError(f"--resume: {resume} does not exist; give a run folder such as results/<script>/<time>")
    try:
        config = json.loads((folder / "config.json").read_text())
        flags, fields = dict(config["flags"]), {f.name: f for f in dataclasses.fields(config_class)}
        if not all(isinstance(config[key], str) for key in ("script", "data", "data_name")):  # the figure's title
            raise ValueError("not what a run wrote")
        if set(flags) - set(fields):
            if config["script"] != (script := script_of(config_class)):
                raise UserError(f"--resume: {folder} is a run of {config['script']!r}, not of {script!r}")
            raise ValueError("flags of no version of this script")
        return {name: flags.get(name, f.default) for name, f in fields.items()}  # a flag of later is at its default
    except FileNotFoundError:
        raise UserError(f"--resume: {folder} holds no config.json, so it is not a run folder") from None
    except (ValueError, KeyError, TypeError, RecursionError, OSError):
        raise UserError(f"--resume: {folder / 'config.json'} is not of this script, or is damaged") from None


def described_anew(folder: Path, config: TrainingFlags) -> dict[str, Any]:
    """The config.json of the run in `folder`, with the flags of `config`, with which it goes on."""
    described = json.loads((folder / "config.json").read_text())
    described["flags"] |= {name: value for name, value in dataclasses.asdict(config).items()
                           if name not in ("output_dir", "resume")}
    return described


def refuse_changed_flags(config: TrainingFlags, saved: TrainingFlags, where: Any) -> None:
    for f in dataclasses.fields(config):
        old, new = getattr(saved, f.name), getattr(config, f.name)
        if old != new and not f.metadata["resumable"]:
            raise UserError(f"--resume: {where} was trained with --{f.name} {old}, not {new}; "
                            f"leave the flag out, or start a new run without --resume")


def refuse_another_run(config: TrainingFlags, resume: Path, folder: Path, data: Any) -> None:
    """Flags or splits that are not those of the run in `folder`, which `resume` names, are the user's error."""
    refuse_changed_flags(config, type(config)(**saved_flags(resume, type(config))), resume)
    was = json.loads((folder / "config.json").read_text())
    if (was["data_name"], was["data"]) != (data.name, data.state):
        raise UserError(f"--data_dir: {folder} was trained on {was['data_name']} ({was['data']}), this is {data.name} "
                        f"({data.state}); name the folder of its data")
