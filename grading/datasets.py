"""The data sets that workers train on: small made-up ones in CIFAR-10's format, or CIFAR-10 without half its labels.

`small` and `tiny` are for the scripts' flags: their test images are far brighter than the training images, so that
which split a model is shown can be read off its input. `accuracy` is for training: 10 blurred patterns under noise, or
the real images. The labels of its hidden images exist in the grader's memory alone.
"""

from __future__ import annotations

import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from grading import expected
from grading.checks import Context
from grading.rubric import Rubric

TINY_TEST = 24
ReadBatch = Callable[[Path], tuple[np.ndarray, np.ndarray]]
BATCHES = [f"data_batch_{i}" for i in range(1, 6)]
FILES = [*BATCHES, "test_batch"]


class _Python2Pickler(pickle._Pickler):  # type: ignore[name-defined, misc]
    """Writes byte strings as Python 2 did, which is how the published files are: readers rely on it."""

    dispatch: ClassVar[dict[type, Any]] = dict(pickle._Pickler.dispatch)  # type: ignore[attr-defined]

    def save_bytes(self: Any, obj: bytes) -> None:
        self.write((b"U" + struct.pack("<B", len(obj)) if len(obj) < 256 else b"T" + struct.pack("<i", len(obj))) + obj)
        self.memoize(obj)

    dispatch[bytes] = save_bytes


def write_batch(path: Path, pixels: np.ndarray, labels: np.ndarray, title: str) -> None:
    """One batch file from pixels uint8 (N, 3072) and labels (N,)."""
    batch = {b"batch_label": title.encode(), b"labels": [int(label) for label in labels],
             b"data": np.ascontiguousarray(pixels, np.uint8), b"filenames": [b"%d.png" % i for i in range(len(labels))]}
    with open(path, "wb") as file:
        _Python2Pickler(file, protocol=2).dump(batch)


def write_folder(folder: Path, train: tuple[np.ndarray, np.ndarray], test: tuple[np.ndarray, np.ndarray]) -> Path:
    """The six batch files and the class names."""
    folder.mkdir(parents=True)
    parts = zip(np.array_split(train[0], 5), np.array_split(train[1], 5), strict=True)
    for i, (pixels, labels) in enumerate(parts, 1):
        write_batch(folder / f"data_batch_{i}", pixels, labels, f"training batch {i} of 5")
    write_batch(folder / "test_batch", *test, "testing batch 1 of 1")
    with open(folder / "batches.meta", "wb") as file:
        _Python2Pickler(file, protocol=2).dump({b"num_cases_per_batch": len(test[0]), b"num_vis": 3072,
                                                b"label_names": [b"class %d" % i for i in range(10)]})
    return folder


def patterns(number: int, seed: int, brightness: float = 120) -> tuple[np.ndarray, np.ndarray]:
    """Pixels uint8 (number, 3072) and labels: a coarse pattern for each of 10 classes under strong noise."""
    coarse = np.random.default_rng(1).normal(0, 35, (10, 3, 4, 4))
    templates = coarse.repeat(8, axis=2).repeat(8, axis=3).reshape(10, 3072)
    rng = np.random.default_rng(seed)
    labels = np.arange(number) % 10
    rng.shuffle(labels)
    noise = rng.normal(0, 50, (number, 3072)) + rng.normal(0, 15, (number, 1))
    return np.clip(brightness + templates[labels] + noise, 0, 255).astype(np.uint8), labels


def write_small(folder: Path, train: int, test: int) -> Path:
    """Dark training images, bright test images."""
    (dark, dark_labels), (bright, bright_labels) = patterns(train, 2), patterns(test, 3)
    return write_folder(folder, (dark // 4, dark_labels), (165 + bright // 4, bright_labels))


def prepare(folder: Path, rubric: Rubric, data_dir: Path | None,
            read_batch: ReadBatch | None) -> Context:
    """Write the workers' data sets below `folder`.

    data_dir: CIFAR-10's batch files, or None for the stand-in. read_batch: a file's (pixels, labels).
    """
    folder.mkdir(parents=True)
    data = {"small": write_small(folder / "small", 400, 200), "tiny": write_small(folder / "tiny", 80, TINY_TEST)}
    if data_dir is None or read_batch is None:
        train, test = patterns(1000, 4), patterns(700, 5)
        shown = 200
    else:
        pixels, labels = zip(*(read_batch(data_dir / name) for name in FILES), strict=True)
        train, test = (np.concatenate(pixels[:5]), np.concatenate(labels[:5])), (pixels[5], labels[5])
        shown = len(test[0]) // 2
    data["accuracy"] = write_folder(folder / "accuracy", train, (test[0][:shown], test[1][:shown]))
    mean = train[0].mean(axis=0, dtype=np.float64)
    hidden = (test[0][shown:] - mean).astype(np.float32)
    for path in [folder, *folder.rglob("*")]:  # workers read them as another user
        path.chmod(0o755 if path.is_dir() else 0o644)
    return Context(data, hidden, np.asarray(test[1][shown:]), data_dir is not None, rubric.accuracy,
                   rubric.accuracy_seconds, expected.values())
