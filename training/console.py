"""What a run prints."""

from __future__ import annotations

import contextlib
import functools
import re
import sys
import textwrap
import time
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from tqdm import tqdm

from imagefiles.dataset import DataSet

SOON, LONG, PERIOD = 2, 10, 30  # seconds; before the first of them, a slow start would pass for a long evaluation


def say(text: str) -> None:
    """Print a line above the progress bar."""
    with contextlib.suppress(OSError):
        tqdm.write(text, file=sys.stdout)
        sys.stdout.flush()


def notice(text: str) -> None:
    say(f"NOTICE: {text}")


notice_once = functools.cache(notice)


def wrapped(text: str, width: int, indent: str = "", first: str = "") -> str:
    """`text` in lines of up to `width` characters, the first behind `first`; a flag and its value stay together."""
    joined = re.sub(r"(--\w+) ", "\\1\N{NO-BREAK SPACE}", text)
    return textwrap.fill(joined, width, initial_indent=first, subsequent_indent=indent,
                         break_on_hyphens=False).replace("\N{NO-BREAK SPACE}", " ")


class StepBar(tqdm):
    """The bar of a run on a terminal: steps done, time left with the evaluations to come, loss, learning rate."""

    left = "?"
    shown: tuple[str, ...] = ()

    def __init__(self, step: int, last_step: int, silent: bool):
        super().__init__(total=last_step, initial=step, dynamic_ncols=True, disable=True if silent else None,
                         bar_format="{percentage:3.0f}%|{bar}| {parts}")

    @property
    def format_dict(self) -> dict[str, Any]:
        known = super().format_dict
        parts = [f"step {self.n}/{self.total}", f"{self.left} left", *self.shown]
        while parts and known["ncols"] and len("100%|#| " + ", ".join(parts)) > known["ncols"]:
            parts.pop()  # what does not fit is left out whole
        return {**known, "parts": ", ".join(parts)}

    def show(self, loss: float, learning_rate: float) -> None:
        self.shown = f"loss {loss:.4f}", f"learning rate {learning_rate:.2g}"

    def step(self, seconds_left: float) -> None:
        self.left = self.format_interval(seconds_left)
        self.update()


class ShownSplit(DataSet):
    """The first `images` of a split, or all for 0; `batches` shows how far an evaluation is.

    name: 'test', or 'test[:500]' for a part of it.
    """

    def __init__(self, split: DataSet, images: int, name: str, silent: bool):
        images = images or split.num_examples
        super().__init__(split.pixels[:images], split.labels[:images], split.mean, scale=split.scale)
        self.name, self._silent = name if images == split.num_examples else f"{name}[:{images}]", silent

    def batches(self, batch_size: int, reuse: bool = False) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        yield from self.shown(super().batches(batch_size, reuse))

    def shown(self, batches: Iterable[Any]) -> Iterator[Any]:
        yield from with_progress(batches, self.num_examples, f"evaluating {self.name}", self._silent)


def with_progress(batches: Iterable[Any], total: int, what: str, silent: bool) -> Iterator[Any]:
    """The batches (images, labels) of `total` images, with a bar on a terminal.

    Where there is no terminal, what takes more than LONG seconds says what is left, soon after its start and then every
    PERIOD seconds.
    """
    with tqdm(desc=what, total=total, leave=False, delay=0.5, dynamic_ncols=True, disable=True if silent else None,
              bar_format="{desc} {percentage:.0f}%|{bar}|{remaining} left") as bar:
        start, done, due = time.perf_counter(), 0, float(SOON)
        for images, labels in batches:
            yield images, labels
            bar.update(len(labels))
            done += len(labels)
            seconds = time.perf_counter() - start
            whole = seconds * total / done
            if bar.disable and not silent and seconds >= due and whole > LONG and done < total:
                due = seconds + PERIOD
                with contextlib.suppress(OSError):
                    print(f"{what}: {done} of {total} images, {tqdm.format_interval(whole - seconds)} left",
                          file=sys.stderr, flush=True)
