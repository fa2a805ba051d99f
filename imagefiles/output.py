"""What the commands print, whatever standard output can encode."""

from __future__ import annotations

import contextlib
import sys


def print_any_text() -> None:
    """From now on, a character that standard output cannot encode is printed as \\xe4: a file's name stops nothing."""
    with contextlib.suppress(AttributeError, ValueError):  # another kind of stream, or a closed one
        sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
