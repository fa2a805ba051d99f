"""Files that are written whole or not at all, and names that are safe to write."""

from __future__ import annotations

import ast
import hashlib
import json
import os
import re
import secrets
import threading
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

ONE_PARSER = threading.Lock()  # CPython 3.11 counts all threads' recursion in ast.parse as one, and stumbles over it


class OutputError(Exception):
    """The output folder cannot be used: one line that names it and the way out."""


class Trouble(Exception):
    """This machine has failed, and not what it was to judge: one line that says how."""


def write(path: Path, content: str | bytes) -> None:
    """Replace the file at `path` in one step. Raises OutputError."""
    temporary = path.with_name(f".{secrets.token_hex(4)}.part")  # other graders may write the same file
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            temporary.write_bytes(content.encode("utf-8", "replace") if isinstance(content, str) else content)
            os.replace(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror}; make room, or choose another place") from None


def write_json(path: Path, value: Any) -> None:
    write(path, json.dumps(value, indent=2) + "\n")


ABSENT = "is not in the submission"


def whereabouts(name: str, code: Path, folder: Path) -> str:
    """Where in `folder` the file lies that should be in `code`, as a sentence without its full stop.

    Where it does not, a file beside the others may be it: one whose name is longer or shorter at its end.
    """
    found = min((path for path in folder.rglob("*") if path.name.lower() == name and path.is_file()),
                key=lambda path: (path.parent != code, len(path.parts), path), default=None)
    if found is None:
        stem = name.removesuffix(".py")
        near = [path.name for path in sorted(code.glob("*.py"))
                if path.stem.startswith(stem) or (len(path.stem) > 4 and stem.startswith(path.stem))]
        return f"{name} {ABSENT}" + (f"; if it is {near[0]}, name it {name}" if near else "")
    place = found.relative_to(folder)
    return f"{name} is not beside the others: it lies in {place.parent.as_posix()}/" if found.name == name else (
        f"{name} is called {place.as_posix()}")


def alphabetical(name: str) -> tuple[str, str]:
    """De Vries stands before Visser, and so does de Vries."""
    return name.casefold(), name


def folder_name(student: str) -> str:
    """A folder's name for a student, which no other student's is: the name itself where it is harmless, else with a
    mark of the original. What looks like such a mark is not harmless.
    """
    safe = re.sub(r"[^\w .+@()-]", "_", student).encode()[:100].decode(errors="ignore").strip(" .")
    if safe == student and safe and not re.search("-[0-9a-f]{8}$", safe):
        return safe
    return f"{safe or 'student'}-{mark_of(student)}"


def mark_of(name: str) -> str:
    """Eight digits that tell a name from all others which look like it."""
    return hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()[:8]


def local_imports(folder: Path, names: Sequence[str], but: Collection[str] = ()) -> list[str]:
    """`names`, and the files of `folder` that they import, and those these import, sorted; none of `but`."""
    found, queue = set(), list(names)
    while queue:
        name = queue.pop()
        if name in found or name in but or not (folder / name).is_file():
            continue
        found.add(name)
        with ONE_PARSER:
            tree = ast.parse((folder / name).read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                modules = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module:
                modules = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
            else:
                continue
            for module in modules:
                *packages, last = module.split(".")
                queue += ["/".join([*packages, f"{last}.py"]),
                          *("/".join([*packages[:i], "__init__.py"]) for i in range(1, len(packages) + 1))]
    return sorted(found)
