"""What the commands print. Lost output stops nothing: its reader or terminal may be gone, or its disk full."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any


def print_any_text() -> None:
    """From now on, a character that standard output cannot encode is printed as \\xe4: a file's name stops nothing."""
    with contextlib.suppress(AttributeError, ValueError):  # another kind of stream, or a closed one
        sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]


class Lossy:
    """A text stream whose text goes nowhere once writing to it has failed."""

    def __init__(self, stream: Any):
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        self._try(self._stream.write, text)
        return len(text)

    def flush(self) -> None:
        self._try(self._stream.flush)

    def _try(self, method: Callable[..., Any], *arguments: str) -> None:
        try:
            method(*arguments)
        except (OSError, ValueError):  # a ValueError where the stream was closed
            with contextlib.suppress(OSError, ValueError):  # what is still in its buffer must not fail as Python ends
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, self._stream.fileno())
                os.close(nowhere)


@contextlib.contextmanager
def lossy_output() -> Iterator[None]:
    """Inside, standard output and standard error may be closed, full or broken, and print what they cannot encode."""
    print_any_text()
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:  # closed: the next file would get this number, and what libraries print
            os.open(os.devnull, os.O_RDWR)
    before = sys.stdout, sys.stderr
    with open(os.devnull, "w") as nowhere:
        sys.stdout, sys.stderr = (Lossy(stream or nowhere) for stream in before)  # type: ignore[assignment]
        try:
            yield
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            sys.stdout, sys.stderr = before
