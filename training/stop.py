"""Ctrl-C and SIGTERM as a request to stop: a run saves what it has and ends after the step it is at."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable
from typing import Any


class Interrupted(Exception):
    """The run was asked to stop, and is saved. Exit status 128 + signal number."""

    def __init__(self, signum: int, message: str):
        super().__init__(message)
        self.signum, self.status = signum, 128 + signum


class StopRequest:
    """Receives SIGINT and SIGTERM while it is entered as a context manager; `taken()` tells whether one came.

    A signal raises KeyboardInterrupt at once while `interruptible` is set, which an evaluation does since it changes
    nothing, and where it is the second one.

    agree: for several processes, which must stop after the same step: turns each one's signal number (0: none) into the
    same number for all. An evaluation is then always finished, since the others are at it too.
    """

    def __init__(self, agree: Callable[[int], int] | None = None):
        self.interruptible = False
        self._agree = agree
        self._signum = 0
        self._handlers: dict[signal.Signals, Any] = {}

    def __enter__(self) -> StopRequest:
        with contextlib.suppress(ValueError):  # only the main thread may set handlers
            for signum in (signal.SIGINT, signal.SIGTERM):
                self._handlers[signum] = signal.signal(signum, self._receive)
        return self

    def __exit__(self, *_: Any) -> None:
        for signum, handler in self._handlers.items():
            signal.signal(signum, handler)

    def _receive(self, signum: int, frame: Any) -> None:
        at_once = self._agree is None and (self._signum or self.interruptible)
        self._signum = signum
        if at_once:
            raise KeyboardInterrupt

    def taken(self) -> int:
        """The number of the signal that came, once; 0 where none did."""
        signum = self._agree(self._signum) if self._agree else self._signum
        if signum:  # with several processes, one that came just now waits for the next time, when all hear of it
            self._signum, self.interruptible = 0, False
        return signum

    @property
    def came_after_all(self) -> int:
        """The number of a signal that nobody has taken yet, without asking the other processes."""
        return self._signum
