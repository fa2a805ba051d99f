"""What the commands read of their command line, and what they print.

Lost output stops nothing: its reader or terminal may be gone, or its disk full. Ctrl-C is one line.
"""

from __future__ import annotations

import argparse
import contextlib
import difflib
import os
import re
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
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
    """Inside, standard output and standard error may be closed, full or broken, and print what they cannot encode.

    Ctrl-C, where nothing inside has taken it, ends the command in one line with status 130.
    """
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
        except KeyboardInterrupt:
            print(f"{os.path.basename(sys.argv[0])}: stopped; what was written before is whole", file=sys.stderr)
            sys.exit(130)
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            sys.stdout, sys.stderr = before


@contextlib.contextmanager
def ended_as_by_ctrl_c() -> Iterator[None]:
    """Inside, SIGTERM and a closed terminal raise KeyboardInterrupt, so that nothing made by half is left behind."""
    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    handlers: dict[Any, Any] = {}
    with contextlib.suppress(ValueError):  # only the main thread may set handlers
        for signum in (signal.SIGTERM, getattr(signal, "SIGHUP", None)):  # Windows has none
            if signum and signal.getsignal(signum) != signal.SIG_IGN:  # as under nohup
                handlers[signum] = signal.signal(signum, stop)
    try:
        yield
    finally:
        for signum, handler in handlers.items():
            signal.signal(signum, handler)


class Parser(argparse.ArgumentParser):
    """argparse, but a mistake is one line on stderr instead of a page of usage; an unknown flag names the nearest."""

    def __init__(self, **keywords: Any):
        super().__init__(allow_abbrev=False, **keywords)

    def parse_known_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> Any:  # type: ignore[override]
        return super().parse_known_args(with_values_joined(sys.argv[1:] if args is None else list(args)), namespace)

    def error(self, message: str) -> Any:
        unknown = message.removeprefix("unrecognized arguments: ").split()
        if len(unknown) < len(message.split()) and unknown[0].startswith("-"):
            name = unknown[0].partition("=")[0]
            near = difflib.get_close_matches(name, self._option_string_actions, n=1)
            message = f"unknown flag {name}" + (f"; did you mean {near[0]}?" if near else "")
        self.exit(2, f"{self.prog}: {message} (see --help)\n")


def with_values_joined(argv: list[str]) -> list[str]:
    """`--name -1e-3` as `--name=-1e-3`, which argparse takes for a value and not for another flag."""
    joined: list[str] = []
    for part in argv:
        if joined and re.fullmatch(r"--\w+", joined[-1]) and re.match(r"-(\d|\.|inf|nan)", part):
            joined[-1] += f"={part}"
        else:
            joined.append(part)
    return joined
