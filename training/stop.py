"""Ctrl-C, SIGTERM and a closed terminal as a request to stop: a run saves what it has and ends after its step."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Iterator
from typing import Any


class Interrupted(Exception):
    """The run was asked to stop, and is saved. Exit status 128 + signal number."""

    def __init__(self, signum: int, message: str):
        super().__init__(message)
        self.signum, self.status = signum, 128 + signum


def stop_signals() -> list[int]:
    """SIGINT, SIGTERM, and SIGHUP where the system has it and does not ignore it, as it does under nohup."""
    hangup = getattr(signal, "SIGHUP", None)
    heard = [] if hangup is None or signal.getsignal(hangup) == signal.SIG_IGN else [hangup]
    return [signal.SIGINT, signal.SIGTERM, *heard]


class StopRequest:
    """Receives the stop signals while it is entered as a context manager; `taken()` tells whether one came.

    A second signal raises KeyboardInterrupt at once, and so does the first inside `at_once()`.

    agree: for several processes, which must stop after the same step: turns each one's signal number (0: none) into the
    same number for all. A second signal then waits like the first, and none ends the process until `restore`: torchrun
    sends SIGTERM to those that end last, of which one may have to tell how the run ended.
    """

    def __init__(self, agree: Callable[[int], int] | None = None):
        self.agree = agree
        self._interruptible = False
        self._signum = 0
        self._handlers: dict[int, Any] = {}

    def __enter__(self) -> StopRequest:
        with contextlib.suppress(ValueError):  # only the main thread may set handlers
            for signum in stop_signals():
                self._handlers[signum] = signal.signal(signum, self._receive)
        return self

    def __exit__(self, *_: Any) -> None:
        if not self.agree:
            self.restore()

    def restore(self) -> None:
        """Signals mean again what they meant before."""
        while self._handlers:
            signal.signal(*self._handlers.popitem())

    def _receive(self, signum: int, frame: Any) -> None:
        at_once = self._interruptible or (self._signum and self.agree is None)
        self._signum = signum
        if at_once:
            raise KeyboardInterrupt

    @contextlib.contextmanager
    def at_once(self) -> Iterator[None]:
        """For work that changes nothing: a signal raises KeyboardInterrupt at once, one that came before it, too."""
        self._interruptible = True
        try:
            if self._signum:
                raise KeyboardInterrupt
            yield
        finally:
            self._interruptible = False

    def taken(self) -> int:
        """The number of the signal that came, once; 0 where none did."""
        signum = self.agree(self._signum) if self.agree else self._signum
        if signum:  # with several processes, one that came just now waits for the next time, when all hear of it
            self._signum = 0
        return signum

    @property
    def came_after_all(self) -> int:
        """The number of a signal that was not taken yet, without asking the other processes."""
        return self._signum
