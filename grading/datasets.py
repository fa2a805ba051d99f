"""The data sets that workers train on, in the shape in which CIFAR-10 is published: six files of 10,000 images.

`marked` is made up: 10 patterns under noise, each image with the mark of its split, so that which split a model is
shown can be read off its input. `accuracy`, in a run on the real images, is CIFAR-10 with one half of its test images,
twice. The labels of the hidden images, on which accuracy is measured, exist in the grader's memory alone.
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
from grading.inputs import Inputs
from grading.rubric import Rubric
from grading.worker import marks

TRAIN_IMAGES, TEST_IMAGES, HIDDEN = 50_000, 10_000, 500
PATTERN, MARK, DARK = 20, 12, 64  # pixel values: weak patterns, so that a faulty update does not learn them in time
NOISE = 2  # 256 / NOISE values of noise
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


def standin(inputs: Inputs, number: int, name: str, code: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pixels uint8 (number, 3072) and labels: a pattern for each of 10 classes, the mark of a split and noise.

    Half of the training split's marks are bright and half are dark, so that the mean image holds none. The patterns are
    constant over blocks of 8 x 8 pixels, where the mark adds up to 0: neither hides the other.
    """
    coarse = inputs.draw("patterns").uniform(-PATTERN, PATTERN, (10, 3, 4, 4))
    patterns = coarse.repeat(8, axis=2).repeat(8, axis=3).reshape(10, 3072)
    rng = inputs.draw(name)
    labels, sign = rng.permutation(np.arange(number) % 10), rng.permutation(np.arange(number) % 2)
    if name == "test":
        sign[:TEST_IMAGES] = rng.permutation(np.arange(TEST_IMAGES) < inputs.bright)
    noiseless = DARK + patterns + MARK * np.array([-1, 1])[:, None, None] * marks.image(code)  # sign, class, pixel
    noise = np.frombuffer(rng.bytes(3072 * number), np.uint8).reshape(number, 3072) // NOISE
    return noise + noiseless.round().astype(np.uint8)[sign, labels], labels


def prepare(folder: Path, rubric: Rubric, data_dir: Path | None,
            read_batch: ReadBatch | None, inputs: Inputs | None = None) -> Context:
    """Write the workers' data sets below `folder`.

    data_dir: CIFAR-10's batch files, or None for the stand-in. read_batch: a file's (pixels, labels). inputs: what is
    drawn for this class; the public ones unless given.
    """
    inputs = inputs or Inputs()
    folder.mkdir(parents=True)
    sizes = {"train": TRAIN_IMAGES, "test": TEST_IMAGES + HIDDEN}
    train, test = (standin(inputs, number, name, code) for (name, number), code in zip(
        sizes.items(), marks.codes(), strict=True))
    hidden = tuple(part[TEST_IMAGES:] for part in test)
    data = {"marked": write_folder(folder / "marked", train, (test[0][:TEST_IMAGES], test[1][:TEST_IMAGES]))}
    if data_dir is not None and read_batch is not None:
        pixels, labels = zip(*(read_batch(data_dir / name) for name in FILES), strict=True)
        train = np.concatenate(pixels[:5]), np.concatenate(labels[:5])
        shown, unseen = np.array_split(inputs.draw("hidden").permutation(len(labels[5])), 2)
        hidden = pixels[5][unseen], labels[5][unseen]
        twice = [np.concatenate([part[shown], part[shown]]) for part in (pixels[5], labels[5])]
        data["accuracy"] = write_folder(folder / "accuracy", train, (twice[0], twice[1]))
    images = (hidden[0] - train[0].mean(axis=0, dtype=np.float64)).astype(np.float32)
    for path in [folder, *folder.rglob("*")]:  # workers read them as another user
        path.chmod(0o755 if path.is_dir() else 0o644)
    return Context(data, images, np.asarray(hidden[1]), len(data) > 1, rubric.accuracy, rubric.accuracy_seconds,
                   expected.values(inputs), inputs)
