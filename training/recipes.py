"""Recipes: files of flags. recipes/NAME.toml, or a .toml or .json file anywhere.

A recipe has a table `flags`, and the name of the `script` that they are for. `--recipe` reads it; the command line
overrides it.
"""

from __future__ import annotations

import dataclasses
import json
import os
import tomllib
from pathlib import Path
from typing import Any

from training.flags import UserError, script_of

RECIPES = Path(__file__).parent.parent / "recipes"


def read_recipe(path: Path) -> dict[str, Any]:
    """A recipe file as a table {'script', 'about', 'flags'}. Raises UserError."""
    try:
        text = path.read_text(encoding="utf-8-sig")  # with or without a byte order mark
        recipe = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except OSError as error:
        raise UserError(f"--recipe: {path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:  # such as UTF-16, which some Windows shells write
        raise UserError(f"--recipe: {path} is not in UTF-8; save it in that encoding") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"--recipe: {path} is not {path.suffix[1:].upper()}: {error}") from None
    kinds = {"script": str, "flags": dict}
    if not isinstance(recipe, dict) or not all(isinstance(recipe.get(key), kind) for key, kind in kinds.items()):
        raise UserError(f"--recipe: {path} has no `script` and table of `flags`, so it is not a recipe; "
                        f"see {RECIPES.name}/study-best.toml")
    return recipe


def recipes() -> dict[str, dict[str, Any]]:
    """The recipes that come with this package, by name; a broken one is left out (and named when it is asked for)."""
    found = {}
    for path in sorted(RECIPES.glob("*.toml")):
        try:
            found[path.stem] = read_recipe(path)
        except UserError:
            continue
    return found


def names_for(script: str) -> list[str]:
    return [name for name, recipe in recipes().items() if recipe["script"] == script]


def recipe_flags(name: str, config_class: type) -> dict[str, Any]:
    """The flags of the recipe `name`, of this package or a file. Raises UserError."""
    name = os.path.expanduser(name)
    path = Path(name) if Path(name).suffix in (".toml", ".json") else RECIPES / f"{name}.toml"
    if not os.path.exists(path):  # which, unlike Path.exists, takes a name that is too long
        raise UserError(f"--recipe: there is no {name}; there are {', '.join(recipes()) or 'none'}, or give a file")
    recipe = read_recipe(path)
    if recipe["script"] != script_of(config_class):
        raise UserError(f"--recipe: {name} is for {recipe['script']}.py")
    if unknown := sorted(set(recipe["flags"]) - {f.name for f in dataclasses.fields(config_class)}):
        raise UserError(f"--recipe: {name} has a flag {unknown[0]!r}, which {recipe['script']}.py does not know")
    return recipe["flags"]
