"""The command line of a training script: its flags, with those of a recipe or of a resumed run, and its exit status."""

from __future__ import annotations

import argparse
import dataclasses
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from imagefiles.dataset import DataError, quoted
from imagefiles.output import Parser, lossy_output
from training.console import notice
from training.flags import GROUPS, IdleFlag, UserError, script_of
from training.machine import out_of_memory
from training.recipes import names_for, recipe_flags
from training.resume import check_same_flags, saved_flags
from training.run import Diverged, Interrupted

DIGITS = {"wall_seconds": 1, "images_per_second": 0}  # behind the point, in the printed summary; 4 of all others


def add_flags(parser: argparse.ArgumentParser, config_class: type) -> None:
    """One argument for each field, under the headings that the fields name; the help says what it needs."""
    for title in GROUPS:
        group = parser.add_argument_group(title)
        for f in (f for f in dataclasses.fields(config_class) if f.metadata["group"] == title):
            shown = f.default if not isinstance(f.default, str) or f.default else "''"
            choices, needs = f.metadata["choices"], f.metadata["needs"]
            shown = f"{shown}; needs {needs}" if needs else shown
            group.add_argument(f"--{f.name}", metavar="{" + ",".join(choices) + "}" if choices else f.name.upper(),
                               help=f"{f.metadata['help']} (default: {shown})".replace("%", "%%"))


def parse_flags(config_class: type, description: str, argv: list[str] | None = None) -> Any:
    """Flags of the command line -> config. It overrides those of --recipe, or of the run that --resume names."""
    parser = Parser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter,
                    argument_default=argparse.SUPPRESS)
    add_flags(parser, config_class)
    names = names_for(script_of(config_class))
    parser.add_argument("--recipe", metavar="RECIPE", help="flags from a file, which the command line overrides: a "
                        f".toml or .json file{', or one of ' if names else ''}{', '.join(names)}")
    given = vars(parser.parse_args(argv))
    recipe = given.pop("recipe", "")
    if not given.get("resume"):
        return config_of(config_class, recipe_flags(recipe, config_class) if recipe else {}, given)
    if recipe:
        raise UserError("--recipe: a run that is resumed brings its own flags; leave one of them out")
    saved = saved_flags(Path(os.path.expanduser(given["resume"])), config_class)
    if "max_steps" in given:
        given.setdefault("epochs", 0)
    config = config_class(**{**saved, "output_dir": "", **given})
    check_same_flags(config, config_class(**saved), given["resume"])
    return config


def config_of(config_class: type, recipe: dict[str, Any], given: dict[str, Any]) -> Any:
    """The flags `given` over those of a recipe, of which those are dropped that thereby have no effect any more."""
    recipe = dict(recipe)
    if "max_steps" in given and recipe.get("epochs"):
        given = {"epochs": 0, **given}
    while True:
        try:
            return config_class(**{**recipe, **given})
        except IdleFlag as idle:
            if idle.name not in recipe or idle.name in given or not idle.needs_one_of(given):
                raise
            del recipe[idle.name]
            notice(f"--{idle.name} of the recipe is left out: it needs {idle.needs}.")


@lossy_output()
def run_script(config_class: type, train: Callable[[Any], dict[str, Any]], description: str,
               argv: list[str] | None = None) -> int:
    """Parse the flags, train, print the summary; every foreseeable failure is one line and an exit status."""
    def fail(message: Any, status: int, told: bool = False) -> int:
        if not told:
            print(f"{Path(sys.argv[0]).name}: {message}", file=sys.stderr)
        return status

    def noted(error: BaseException) -> str:
        """What the run says about how to continue it."""
        return "".join(f"; {note}" for note in getattr(error, "__notes__", []) if note)

    try:
        if summary := train(parse_flags(config_class, description, argv)):
            for key, value in summary.items():
                text = quoted(value) if key == "folder" else value
                print(f"{key:{max(map(len, summary))}}  "
                      f"{f'{value:.{DIGITS.get(key, 4)}f}' if isinstance(value, float) else text}")
        return 0
    except (UserError, DataError) as error:
        return fail(error, 2)
    except (Diverged, Interrupted) as error:  # with several processes, the first of them tells how the run ended
        return fail(error, error.status, getattr(error, "told", False))
    except ConnectionError as error:
        return fail(f"{error}{noted(error)}", 1)
    except OSError as error:
        return fail(f"cannot write or read {error.filename or 'a file'}: {error.strerror or error}; "
                    f"what was written before is whole{noted(error)}", 1)
    except (Exception, KeyboardInterrupt) as error:  # or what a library that was starting up made of Ctrl-C
        if isinstance(error, KeyboardInterrupt) or isinstance(error.__context__, KeyboardInterrupt):
            return fail(f"stopped at once; what was saved before is whole{noted(error)}", 130)
        if not out_of_memory(error):
            raise
        return fail("out of memory; use a smaller --batch_size or a smaller network", 1)
