"""Writes a folder of data files whole or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PART_SUFFIX = ".part"  # of a download that broke off


def is_filled(folder: Path) -> bool:
    """Whether something lies in the way; hidden files (.DS_Store) and a broken-off download do not."""
    if not folder.is_dir():
        return folder.exists()
    return any(not path.name.startswith(".") and path.suffix != PART_SUFFIX for path in folder.iterdir())


def place_for(folder: Path) -> Path:
    """Where to write what becomes `folder`: in it where it exists (it may be a link or a mount point), else beside it.

    That folder is made where it is missing.
    """
    real = Path(os.path.realpath(folder))
    place = real if real.is_dir() else real.parent
    place.mkdir(parents=True, exist_ok=True)
    return place


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """Gives an empty folder to write into. At the end, `folder` has what was written, unless an error was raised."""
    real, place = Path(os.path.realpath(folder)), place_for(folder)
    with tempfile.TemporaryDirectory(dir=place, prefix=f".{real.name}-") as temporary:
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
