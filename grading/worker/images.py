"""Which images a script gives its network, in which form, and which numbers it makes of the answers.

The images of the marked data set are known again by some of their pixels, in whatever scale and layout. What a script
does not show here, such as images that it has turned, is not known, and nothing is said of it.
"""

from __future__ import annotations

import contextlib
import functools
import os
import pickle
import re
import sys
from collections.abc import Iterator
from types import FrameType
from typing import Any

import numpy as np

from grading.worker import marks

PIXELS = 128  # that an image is known by
LIKE = 0.8  # correlation of these with those of the data set; of other images of the class it is below 0.5
MOST_LOOKED_UP = 500  # images of a pass that are not in the order of the data set
TRAIN, TEST = [f"data_batch_{i}" for i in range(1, 6)], ["test_batch"]
MOST_LABELLED = 20  # passes
UNKNOWN, MIXED, MOVED = -1, 2, 3  # in the place of a layout
NEARLY = 0.99  # of the images of a pass, or of the test images: a mark may be unreadable
MOST_ITEMS, MOST_IN_AN_ARRAY, MOST_NUMBERS, DEPTH = 3000, 300, 100_000, 4
NUMBER = re.compile(r"(?<![\w.])-?\d+\.?\d*(?:[eE][-+]?\d+)?")


def of_tests(tests: float, images: float) -> bool:
    """Whether a pass of so many images is of test images. The mark of one, or of one in 100, may be unreadable."""
    return tests > 0 and images - tests <= max(1, (1 - NEARLY) * images)


@functools.cache
def places() -> np.ndarray:
    """(2, PIXELS): of the pixels in an image, channels first and channels last."""
    chosen = np.sort(np.random.default_rng(7).choice(3072, PIXELS, replace=False))
    return np.stack([np.arange(3072), np.arange(3072).reshape(32, 32, 3).transpose(2, 0, 1).ravel()])[:, chosen]


def keys(flat: np.ndarray, last: bool) -> np.ndarray:
    """(N, PIXELS), each of mean 0 and norm 1."""
    found = flat[:, places()[int(last)]].astype(np.float32)
    found -= found.mean(axis=1, keepdims=True)
    with np.errstate(all="ignore"):
        return found / np.linalg.norm(found, axis=1, keepdims=True)


def disorder(flat: np.ndarray) -> int:
    """What a reshape has done to images, as is seen when it is taken back; UNKNOWN for anything else.

    MIXED: pixels of several images stand in each. MOVED: those of an image stand in other places of it.
    """
    number = len(flat)
    before = ((MIXED, flat.T), (MIXED, flat.reshape(3, number, -1).transpose(1, 0, 2)),
              (MIXED, flat.reshape(32, 32, 3, number).T),
              (MOVED, flat.reshape(number, 3, 32, 32).transpose(0, 2, 3, 1)))  # of right images: channels last
    for kind, images in before:
        images = images.reshape(number, -1)
        if (marks.read(images)[0] != marks.UNKNOWN).mean() >= NEARLY and marks.layout(images) == 0:
            return kind
    return UNKNOWN


class Known:
    """The images of some batch files and their labels."""

    def __init__(self, folder: str, names: list[str]):
        parts, labels = [], []
        for name in names:
            with open(os.path.join(folder, name), "rb") as file:
                batch = pickle.load(file, encoding="bytes")
            parts.append(keys(batch[b"data"], last=False))
            labels.append(batch[b"labels"])
        self.keys, self.labels = np.concatenate(parts), np.concatenate(labels)

    def find(self, flat: np.ndarray, last: bool) -> np.ndarray:
        """The number of each image, UNKNOWN for those that are not there."""
        wanted = keys(flat, last)
        first = int((self.keys @ wanted[0]).argmax())
        there = self.keys[first:first + len(wanted)]
        if len(there) == len(wanted) and ((there * wanted).sum(axis=1) > LIKE).all():
            return np.arange(first, first + len(wanted))
        if len(wanted) > MOST_LOOKED_UP:
            return np.full(len(wanted), UNKNOWN)
        likeness = wanted @ self.keys.T
        return np.where(likeness.max(axis=1) > LIKE, likeness.argmax(axis=1), UNKNOWN)


class Images:
    """Notes of the forward passes of a run.

    passes: for each (weight updates before it, whether one was made from it, images, of the test split, layout, mean,
    standard deviation, number of its first test image, right predictions), UNKNOWN or NaN where it is not known.
    labels: those of the images of each pass, by the event that the watch has of it.
    """

    def __init__(self, folder: str):
        self.train, self.test = Known(folder, TRAIN), Known(folder, TEST)
        self.passes: list[list[float]] = []
        self.events: list[tuple[int, ...]] = []
        self.labels: dict[tuple[int, ...], np.ndarray] = {}

    def add(self, event: tuple[int, ...], updates: int, images: np.ndarray, output: Any, labels: bool) -> None:
        """A pass. labels: whether those of its images are asked for."""
        number, trained, tests, *_ = event
        row = [updates, 0, number, tests, UNKNOWN, np.nan, np.nan, UNKNOWN, UNKNOWN]
        flat = images.reshape(number, -1)
        unread = flat.shape[1] == 3072 and tests + trained < NEARLY * number
        wrong = disorder(flat) if unread else UNKNOWN
        if flat.shape[1] == 3072 and (tests or trained or wrong != UNKNOWN):
            row[5:7] = [float(np.mean(images, dtype=float)), float(np.std(images, dtype=float))]
            row[4] = marks.layout(flat) if wrong == UNKNOWN else wrong
        if row[4] != UNKNOWN and wrong == UNKNOWN:
            if of_tests(tests, number):
                found = self.test.find(flat, bool(row[4]))
                output = np.asarray(output)
                if (found == found[0] + np.arange(number)).all() and output.shape == (number, 10):
                    row[7:] = [int(found[0]), int((output.argmax(axis=1) == self.test.labels[found]).sum())]
            if labels and len(self.labels) < MOST_LABELLED and trained == number <= MOST_LOOKED_UP:
                found = self.train.find(flat, bool(row[4]))
                self.labels[event] = np.where(found == UNKNOWN, UNKNOWN, self.train.labels[found])
        self.passes.append(row)
        self.events.append(event)

    def trained(self, event: tuple[int, ...]) -> None:
        """An update is made from the pass of this event."""
        for i in reversed(range(len(self.events))):
            if self.events[i] == event:
                self.passes[i][1] = 1
                return


class Numbers:
    """The numbers that a script prints, returns and keeps in variables: among them is the accuracy that it reports.

    printed: (number, places behind its point). kept: all others.
    """

    def __init__(self) -> None:
        self.printed: set[tuple[float, int]] = set()
        self.kept: set[float] = set()
        self.tensor: Any = getattr(sys.modules.get("torch"), "Tensor", ())

    @contextlib.contextmanager
    def taken(self, script: str) -> Iterator[None]:
        """Takes note of them while the script runs."""
        here, outputs, trace = os.getcwd() + os.sep, (sys.stdout, sys.stderr), sys.gettrace()

        def called(frame: FrameType, kind: str, _: Any) -> Any:
            name = frame.f_code.co_filename
            if name != script and not name.startswith(here):
                return None
            frame.f_trace_lines = False
            return returned

        def returned(frame: FrameType, kind: str, value: Any) -> Any:
            if kind == "return" and len(self.kept) < MOST_NUMBERS:
                self.take_all([value, *frame.f_locals.values()])
            return returned

        sys.stdout, sys.stderr = (Tee(out, self) for out in outputs)  # type: ignore[assignment]
        sys.settrace(called)
        try:
            yield
        finally:
            sys.settrace(trace)
            sys.stdout, sys.stderr = outputs

    def take_all(self, values: list[Any]) -> None:
        for value in values:
            with contextlib.suppress(Exception):  # an object that does not let itself be looked at
                self.take(value)

    def read(self, text: str) -> None:
        for word in NUMBER.findall(text[:MOST_ITEMS]):
            mantissa = re.split("[eE]", word)[0]
            if len(self.printed) < MOST_NUMBERS and len(word) < 30:
                self.printed.add((float(word), len(mantissa.partition(".")[2]) if mantissa == word else 15))

    def take(self, value: Any, depth: int = DEPTH) -> None:
        """The numbers in a value, a list, an array, a dictionary or an object of the script's own."""
        if isinstance(value, bool) or depth == 0:
            return
        if isinstance(value, int | float | np.number):
            with contextlib.suppress(OverflowError, TypeError, ValueError):
                self.kept.add(float(value))
        elif isinstance(value, dict | list | tuple | set):
            for item in list(value.values() if isinstance(value, dict) else value)[:MOST_ITEMS]:
                self.take(item, depth - 1)
        elif self.tensor and isinstance(value, self.tensor):
            if value.numel() < MOST_IN_AN_ARRAY and value.dtype.is_floating_point:
                self.kept.update(map(float, value.detach().flatten().tolist()))
        elif isinstance(value, np.ndarray):
            if value.size < MOST_IN_AN_ARRAY and value.dtype.kind in "iuf":
                self.kept.update(map(float, value.ravel()))
        elif type(value).__module__ == "__main__" and hasattr(value, "__dict__"):
            self.take(vars(value), depth - 1)


class Tee:
    """A stream of which every text is read as well."""

    def __init__(self, out: Any, numbers: Numbers):
        self.out, self.numbers = out, numbers

    def write(self, text: str) -> int:
        self.numbers.read(text)
        return self.out.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.out, name)
