"""What lies in a folder of data files; writes one whole or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PART_SUFFIX = ".part"  # of a download that broke off
SHOWN = 3  # names of files that are not known


def is_filled(folder: Path) -> bool:
    """Whether something lies in the way; hidden files (.DS_Store) and a broken-off download do not."""
    if not folder.is_dir():
        return folder.exists()
    return any(not path.name.startswith(".") and path.suffix != PART_SUFFIX for path in folder.iterdir())


def held_by(folder: Path, known: dict[str, str]) -> str:
    """What the folder holds, such as 'holds CIFAR-100', or names of its files; '' where it is empty or missing.

    known: {names of files with a space between: what a folder that has them holds}.
    """
    if not is_filled(folder):
        return ""
    if not folder.is_dir():
        return "is a file"
    try:
        names = sorted(name for name in os.listdir(folder) if not name.startswith("."))
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    for some, what in known.items():
        if set(some.split()) <= set(names):
            return f"holds {what}"
    shown = ", ".join(repr(name[:40]) for name in names[:SHOWN])
    return f"holds {shown}{f' and {len(names) - SHOWN} more' if len(names) > SHOWN else ''}"


@contextmanager
def place_for(folder: Path) -> Iterator[Path]:
    """Where to write what becomes `folder`: in it where it exists (it may be a link or a mount point), else beside it.

    That folder is made where it is missing. At the end, folders that were missing and are empty are removed.
    """
    real = Path(os.path.realpath(folder))
    missing = [path for path in (real, *real.parents) if not path.exists()]
    place = real if real.is_dir() else real.parent
    try:
        place.mkdir(parents=True, exist_ok=True)
        yield place
    finally:
        for path in missing:
            with suppress(OSError):  # it is filled, or was not made
                path.rmdir()


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """Gives an empty folder to write into. At the end, `folder` has what was written, unless an error was raised."""
    real = Path(os.path.realpath(folder))
    with place_for(folder) as place, tempfile.TemporaryDirectory(dir=place, prefix=f".{real.name}-") as temporary:
        made = Path(temporary) / real.name
        made.mkdir()
        yield made
        if place != real:
            os.rename(made, real)
            return
        moved = []
        try:
            for path in sorted(made.iterdir()):
                moved.append(real / path.name)
                os.rename(path, real / path.name)
        except BaseException:
            for path in moved:
                path.unlink(missing_ok=True)
            raise
