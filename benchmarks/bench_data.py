"""Loading CIFAR-10 beside reading its bytes, and a batch beside the copy it has to make.

Loading is `get_cifar10`: six files read, parsed without being run, and copied into one array of bytes, and the mean
image; the first time, their checksums are computed too. The plain way runs the pickles and checks nothing. The files,
in $CIFAR10_DIR or where the scripts look, are in the page cache. The copy a batch has to make: the chosen rows as
float32, in memory of their own, for a batch is the caller's to keep; the plain way also subtracts the mean image, in
one expression.
"""

from __future__ import annotations

import os
import pickle
import tempfile
from pathlib import Path
from unittest import mock

import numpy as np

from benchmarks.profiles import by_function
from benchmarks.rows import Row, row
from benchmarks.timing import by_turns
from cifar10_utils import DATA_DIR, DataSet, get_cifar10
from imagefiles import cifar10_files
from imagefiles.checksums import cache_file
from imagefiles.cifar10_files import BATCH_FILES
from imagefiles.cifar10_standin import draw

BATCH, DRAWN = 200, 2000


def cifar10_folder() -> Path:
    return Path(os.environ.get("CIFAR10_DIR", DATA_DIR)).resolve()


def loading(quick: bool) -> list[Row]:
    folder = cifar10_folder()
    paths = [folder / name for name in BATCH_FILES]

    def plain() -> np.ndarray:
        parts = [pickle.loads(path.read_bytes(), encoding="bytes")[b"data"] for path in paths]
        train = np.concatenate(parts[:-1])
        return train.mean(axis=0, dtype=np.float32)

    def read() -> None:
        for path in paths:
            path.read_bytes()

    def in_one_thread() -> None:  # a profile sees only its own thread
        for path in paths:
            cifar10_files.read_batch(path)

    def first() -> None:
        cache_file().unlink(missing_ok=True)
        get_cifar10(folder, download=False)

    with tempfile.TemporaryDirectory() as cache, mock.patch.dict(os.environ, XDG_CACHE_HOME=cache, LOCALAPPDATA=cache):
        data = get_cifar10(folder, download=False)
        seconds = by_turns({"first": first, "ours": lambda: get_cifar10(folder, download=False),
                            "pickle.loads, the mean": plain, "reading the bytes": read}, rounds=2 if quick else 11)
    setting = f"{data.name}, {data.train.num_examples + data.test.num_examples} images"
    profile = by_function(in_one_thread)
    return [row("Data loading", f"{setting}{when}", seconds, ours, "pickle.loads, the mean", "reading the bytes",
                limit_goal=1.5, profile=profile) for ours, when in (("ours", ""), ("first", ", the first time"))]


def batches(train: DataSet, quick: bool) -> Row:
    assert train.mean is not None
    pixels, mean, labels = train.pixels, train.mean, train.labels
    rng = np.random.default_rng(0)

    def chosen() -> np.ndarray:
        return rng.integers(0, len(pixels), BATCH)

    def plain() -> tuple[np.ndarray, np.ndarray]:
        rows = chosen()
        return pixels[rows] - mean, labels[rows]

    def copy() -> np.ndarray:
        return pixels.take(chosen(), axis=0).astype(np.float32)

    seconds = by_turns({"ours": lambda: train.next_batch(BATCH), "plain NumPy": plain, "the copy": copy},
                       rounds=2 if quick else 31, calls=2 if quick else 50)
    return row("next_batch", f"batch {BATCH} of {train.num_examples}", seconds, "ours", "plain NumPy", "the copy",
               limit_goal=1.5, profile=by_function(lambda: train.next_batch(BATCH), 10 if quick else 1000))


def drawing(quick: bool) -> Row:
    def drawn() -> object:
        return draw(100 if quick else DRAWN, np.random.default_rng(0))

    seconds = by_turns({"ours": drawn}, rounds=1 if quick else 5)
    return row("Drawing the stand-in", f"{100 if quick else DRAWN} images", seconds, "ours", profile=by_function(drawn))


def rows(quick: bool) -> list[Row]:
    found = [*loading(quick), batches(get_cifar10(cifar10_folder(), download=False).train, quick)]
    return [*found, drawing(quick)]
