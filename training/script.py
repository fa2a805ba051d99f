"""The command line of a training script: its flags, with those of a recipe or of a resumed run, and its exit status."""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from imagefiles.dataset import DataError
from training.flags import UserError, script_of
from training.machine import out_of_memory
from training.recipes import names_for, recipe_flags
from training.resume import check_same_flags, saved_flags
from training.run import Diverged, Interrupted


class Parser(argparse.ArgumentParser):
    """argparse, but a mistake is one line on stderr instead of a page of usage; an unknown flag names the nearest."""

    def error(self, message: str) -> Any:
        unknown = message.removeprefix("unrecognized arguments: ").split()
        if len(unknown) < len(message.split()) and unknown[0].startswith("-"):
            name = unknown[0].partition("=")[0]
            near = difflib.get_close_matches(name, self._option_string_actions, n=1)
            message = f"there is no flag {name}" + (f"; did you mean {near[0]}?" if near else "")
        self.exit(2, f"{self.prog}: {message} (see --help)\n")


def add_flags(parser: argparse.ArgumentParser, config_class: type) -> None:
    """One argument for each field, in the groups that the fields name."""
    groups: dict[str, Any] = {}
    for f in dataclasses.fields(config_class):
        title = f.metadata["group"]
        group = groups.setdefault(title, parser.add_argument_group(title) if title else parser)
        shown = f.default if not isinstance(f.default, str) or f.default else "''"
        choices = f.metadata["choices"]
        group.add_argument(f"--{f.name}", metavar="{" + ",".join(choices) + "}" if choices else f.name.upper(),
                           help=f"{f.metadata['help']} (default: {shown})".replace("%", "%%"))


def parse_flags(config_class: type, description: str, argv: list[str] | None = None) -> Any:
    """Flags of the command line -> config. Below them are those of --recipe, or of the run that --resume names."""
    parser = Parser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter,
                    allow_abbrev=False, argument_default=argparse.SUPPRESS)
    add_flags(parser, config_class)
    names = names_for(script_of(config_class))
    parser.add_argument("--recipe", metavar="RECIPE", help="flags from a file, which the command line overrides: a "
                        f".toml or .json file{', or one of ' if names else ''}{', '.join(names)}")
    given = vars(parser.parse_args(argv))
    if "max_steps" in given:  # overrides the epochs of a recipe or of the run that is resumed
        given.setdefault("epochs", 0)
    recipe = given.pop("recipe", "")
    if not given.get("resume"):
        return config_class(**{**(recipe_flags(recipe, config_class) if recipe else {}), **given})
    if recipe:
        raise UserError("--recipe: a run that is resumed brings its own flags; leave one of them out")
    saved = saved_flags(Path(given["resume"]), config_class)
    config = config_class(**{**saved, "output_dir": "", **given})
    check_same_flags(config, config_class(**saved), given["resume"])
    return config


def run_script(config_class: type, train: Callable[[Any], dict[str, Any]], description: str,
               argv: list[str] | None = None) -> int:
    """Parse the flags, train, print the summary; every foreseeable failure is one line and an exit status."""
    def fail(message: Any, status: int) -> int:
        if status < 3 or os.environ.get("RANK", "0") == "0":  # of several processes one tells how the run ended
            print(f"{Path(sys.argv[0]).name}: {message}", file=sys.stderr)
        return status

    try:
        if summary := train(parse_flags(config_class, description, argv)):
            print("   ".join(f"{key} {value:.4f}" if isinstance(value, float) else f"{key} {value}"
                             for key, value in summary.items()))
        return 0
    except (UserError, DataError) as error:
        return fail(error, 2)
    except (Diverged, Interrupted) as error:
        return fail(error, error.status)
    except OSError as error:
        return fail(f"cannot write or read {error.filename or 'a file'}: {error.strerror or error}; "
                    "what was written before is whole: fix that and continue with --resume RUN", 1)
    except (Exception, KeyboardInterrupt) as error:  # or what a library that was starting up made of Ctrl-C
        if isinstance(error, KeyboardInterrupt) or isinstance(error.__context__, KeyboardInterrupt):
            return fail("stopped at once; what was saved before is whole", 130)
        if not out_of_memory(error):
            raise
        return fail("out of memory; use a smaller --batch_size or a smaller network", 1)
