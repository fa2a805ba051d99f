"""CIFAR-10 as two lines of Python.

    import cifar10_utils
    cifar10 = cifar10_utils.get_cifar10('cifar10/cifar-10-batches-py')
    x, y = cifar10['train'].next_batch(200)             # float32 (200, 3, 32, 32), one-hot (200, 10)
    x, y = cifar10.test.images, cifar10.test.labels     # the whole test split, float32 (10000, 3, 32, 32)

The six batch files are pickles; `cifar10_pickle` reads them without running them. Pixels stay uint8 in memory and
become float32 a batch at a time, on the scale 0..255 with the training split's mean image subtracted.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cifar10_pickle import PickleRefused, read_pickle

DATA_DIR = "cifar10/cifar-10-batches-py"
CLASS_NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
TRAIN_FILES = tuple(f"data_batch_{i}" for i in range(1, 6))
TEST_FILE = "test_batch"
BATCH_FILES = (*TRAIN_FILES, TEST_FILE)
META_FILE = "batches.meta"
PUBLISHED_MD5 = {
    "data_batch_1": "c99cafc152244af753f735de768cd75f",
    "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
    "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
    "data_batch_4": "634d18415352ddfa80567beed471001a",
    "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
    "test_batch": "40351d587109b95175f43aff81a1287e",
    "batches.meta": "5ff9c542aee3614f3951f8cda6e48888",
}
PIXELS = 3 * 32 * 32
MAX_FILE_BYTES = 64 * 2**20  # a published batch has 31 MB
READERS = 2  # threads, so at most two or three batch files in memory beside the pixels


class DataError(Exception):
    """Data that is missing, truncated, hostile or mixed up: one to three lines with the way out."""


def dense_to_one_hot(labels: np.ndarray, num_classes: int = 10) -> np.ndarray:
    """Turns class indices into one-hot rows.

    Args:
        labels: integers of shape (N,), each in 0..num_classes-1.
        num_classes: number of columns.

    Returns:
        float32 of shape (N, num_classes).

    Raises:
        ValueError: a label out of range, or not an integer.
    """
    labels = np.asarray(labels)
    if labels.ndim != 1 or (labels.size and labels.dtype.kind not in "iu"):
        raise ValueError(f"labels must be integers of shape (N,), got {labels.dtype} of shape {labels.shape}")
    if labels.size and (labels.min() < 0 or labels.max() >= num_classes):
        raise ValueError(f"labels must lie in 0..{num_classes - 1}, got {labels.min()}..{labels.max()}")
    one_hot = np.zeros((len(labels), num_classes), np.float32)
    one_hot[np.arange(len(labels)), labels] = 1
    return one_hot


class DataSet:
    """Images with labels, served in shuffled batches.

    An epoch permutes indices, never the array. Every batch is full: one that the epoch cannot fill is completed from
    the head of the next epoch's permutation, so that within an epoch each sample is served exactly once.
    """

    def __init__(
        self,
        images: np.ndarray,
        labels: np.ndarray,
        mean: np.ndarray | None = None,
        seed: int = 0,
        scale: float = 1.0,
    ) -> None:
        """
        Args:
            images: (N, channels, height, width), uint8 or floating point; kept as it is, not copied.
            labels: (N,) integers or (N, classes) one-hot.
            mean: mean image of shape (channels, height, width), subtracted from what is served; None for none.
            seed: of the permutations.
            scale: factor applied after the mean is subtracted.

        Raises:
            ValueError: numbers of images and labels differ.
        """
        if len(images) != len(labels):
            raise ValueError(f"{len(images)} images, but {len(labels)} labels")
        self.pixels = np.ascontiguousarray(images)
        self.labels = np.asarray(labels)
        self.mean = None if mean is None else np.asarray(mean, np.float32)
        self.scale = scale
        self.epochs_completed = 0
        self._rng = np.random.default_rng(seed)
        self._start_epoch()

    @property
    def num_examples(self) -> int:
        """Number of images, N."""
        return len(self.pixels)

    @property
    def images(self) -> np.ndarray:
        """The whole split as `next_batch` serves it: float32 (N, channels, height, width), made on each access."""
        return self._as_float(self.pixels)

    def next_batch(self, batch_size: int) -> tuple[np.ndarray, np.ndarray]:
        """Serves the next samples of a permutation that is drawn anew each epoch.

        Args:
            batch_size: number of samples, 1..num_examples.

        Returns:
            (images, labels) of exactly `batch_size` samples, the images as float32; both are the caller's to keep.

        Raises:
            ValueError: batch_size out of range.
        """
        if not 1 <= batch_size <= self.num_examples:
            raise ValueError(
                f"batch_size must be between 1 and the split's {self.num_examples} examples, got {batch_size}"
            )
        chosen = self._order[self._position : self._position + batch_size]
        self._position += len(chosen)
        if self._position == self.num_examples:
            self.epochs_completed += 1
            self._start_epoch()
            missing = batch_size - len(chosen)
            chosen = np.concatenate([chosen, self._order[:missing]])
            self._position = missing
        return self._as_float(self.pixels.take(chosen, axis=0)), self.labels.take(chosen, axis=0)

    def batches(self, batch_size: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Serves the split once, in order, for evaluation; the last batch may be smaller.

        Args:
            batch_size: number of samples, at least 1.

        Yields:
            (images, labels), the images as float32.

        Raises:
            ValueError: batch_size below 1.
        """
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        for start in range(0, self.num_examples, batch_size):
            rows = slice(start, start + batch_size)
            yield self._as_float(self.pixels[rows]), self.labels[rows]

    def state(self) -> dict[str, Any]:
        """What `load_state` needs to continue bit for bit, fit for JSON."""
        return {
            "num_examples": self.num_examples,
            "epochs_completed": self.epochs_completed,
            "position": self._position,
            "bit_generator": self._state_before_order,
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Continues where `state` was taken.

        Raises:
            ValueError: not a state, or the state of a split of another size; nothing is changed then.
        """
        rng = np.random.default_rng()
        try:
            examples, epochs, position = (state[k] for k in ("num_examples", "epochs_completed", "position"))
            rng.bit_generator.state = state["bit_generator"]
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"not the state of a DataSet: {error!r}") from None
        if examples != self.num_examples or not 0 <= position < max(examples, 1):
            raise ValueError(
                f"state of a split of {examples} examples at {position}, this one has {self.num_examples}"
            )
        self._rng = rng
        self._start_epoch()
        self.epochs_completed, self._position = epochs, position

    def _start_epoch(self) -> None:
        self._state_before_order = self._rng.bit_generator.state
        self._order = self._rng.permutation(self.num_examples)
        self._position = 0

    def _as_float(self, pixels: np.ndarray) -> np.ndarray:
        images = pixels.astype(np.float32)  # a cast, then in place: faster than a mixed-type subtraction
        if self.mean is not None:
            images -= self.mean
        if self.scale != 1:
            images *= np.float32(self.scale)
        return images


@dataclass(frozen=True)
class Splits:
    """The splits by key, `data['train']`, and by attribute, `data.train`, with what is known of their origin."""

    train: DataSet
    validation: DataSet
    test: DataSet
    mean_image: np.ndarray
    """(channels, height, width) float32: the mean of the training split, which is subtracted from all splits."""
    state: str
    """'published' (every file has the published MD5), 'unpublished' or 'synthetic' (the stand-in)."""
    name: str
    class_names: tuple[str, ...]

    def __getitem__(self, split: str) -> DataSet:
        if split not in self.keys():
            raise KeyError(f"{split!r}: the splits are {', '.join(self.keys())}")
        return getattr(self, split)

    def keys(self) -> tuple[str, ...]:
        return ("train", "validation", "test")


@dataclass(frozen=True)
class Batch:
    """One batch file as it was read."""

    pixels: np.ndarray  # uint8 (N, 3072), a view of the file
    labels: np.ndarray  # int64 (N,)
    title: str  # 'training batch 1 of 5', or '' where the file does not say
    md5: str


def read_batch(path: Path) -> Batch:
    """Reads and checks one batch file.

    Raises:
        DataError: missing, unreadable, truncated, hostile, or other than N rows of 3072 bytes with N labels in 0..9.
    """
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise DataError(f"{path} has {path.stat().st_size:,} bytes, a batch file has about 31 million")
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from None
    try:
        batch = read_pickle(content)
    except PickleRefused as error:
        raise DataError(f"{path} {error}; {_REPLACE}") from None
    if not isinstance(batch.get("data"), np.ndarray) or "labels" not in batch:
        raise DataError(f"{path} holds no array 'data' with 'labels' beside it; {_REPLACE}")
    pixels = batch["data"]
    if pixels.dtype != np.uint8 or pixels.ndim != 2 or pixels.shape[1] != PIXELS or not len(pixels):
        raise DataError(f"{path}: 'data' is {pixels.dtype} {pixels.shape}, not uint8 (N, {PIXELS}); {_REPLACE}")
    try:
        labels = np.asarray(batch["labels"], np.int64)
    except (ValueError, TypeError, OverflowError):
        raise DataError(f"{path}: 'labels' is no list of integers; {_REPLACE}") from None
    if labels.shape != (len(pixels),):
        raise DataError(f"{path} has {len(pixels)} images, but labels of shape {labels.shape}; {_REPLACE}")
    if labels.min() < 0 or labels.max() > 9:
        raise DataError(f"{path} has labels {labels.min()}..{labels.max()}, not 0..9; {_REPLACE}")
    title = batch.get("batch_label", b"")
    title = title.decode("latin1") if isinstance(title, bytes) else str(title)
    return Batch(pixels, labels, title, hashlib.md5(content, usedforsecurity=False).hexdigest())


_REPLACE = "replace it by the published file"


def get_cifar10(
    data_dir: str | os.PathLike[str] = DATA_DIR,
    one_hot: bool = True,
    validation_size: int = 0,
    seed: int = 0,
    download: bool = True,
    progress: bool | None = None,
) -> Splits:
    """Loads CIFAR-10, fetching it first where `data_dir` has none of it.

    Args:
        data_dir: folder of the six batch files.
        one_hot: labels as float32 (N, 10) one-hot rows; else int64 (N,).
        validation_size: this many training images, the first ones, become the validation split.
        seed: of the order in which `next_batch` serves.
        download: fetch the published archive where the files are missing.
        progress: show a progress bar while fetching; None: where stderr is a terminal.

    Returns:
        The splits train, validation and test: pixels on the scale 0..255, less the mean image of the training split.

    Raises:
        DataError: data missing, truncated, hostile or mixed up, or validation_size out of range.
    """
    folder = Path(data_dir)
    batches = _read_batches(folder)
    pixels, labels, titles, digests = batches
    test_pixels, test_labels = pixels.pop(), labels.pop()
    train_pixels, train_labels = pixels.pop(), labels.pop()
    if not 0 <= validation_size < len(train_pixels):
        raise DataError(
            f"validation_size must be between 0 and {len(train_pixels) - 1}, one less than the training images, "
            f"got {validation_size}"
        )
    # One pass over the bytes with an integer sum: no float copy of the split, and the same mean on every machine.
    total = train_pixels[validation_size:].sum(axis=0, dtype=np.uint32)
    mean = (total / (len(train_pixels) - validation_size)).astype(np.float32).reshape(3, 32, 32)

    def split(pixels: np.ndarray, labels: np.ndarray) -> DataSet:
        targets = dense_to_one_hot(labels) if one_hot else labels
        return DataSet(pixels.reshape(-1, 3, 32, 32), targets, mean, seed)

    state = "unpublished"
    if digests == [PUBLISHED_MD5[name] for name in BATCH_FILES]:
        state = "published"
    elif titles[0].startswith("synthetic"):
        state = "synthetic"
    return Splits(
        train=split(train_pixels[validation_size:], train_labels[validation_size:]),
        validation=split(train_pixels[:validation_size], train_labels[:validation_size]),
        test=split(test_pixels, test_labels),
        mean_image=mean,
        state=state,
        name="synthetic stand-in" if state == "synthetic" else "CIFAR-10",
        class_names=CLASS_NAMES,
    )


def _read_batches(folder: Path) -> tuple[list[np.ndarray], list[np.ndarray], list[str], list[str]]:
    paths = [folder / name for name in BATCH_FILES]
    capacity = sum(p.stat().st_size // PIXELS for p in paths[:-1] if p.is_file())
    train = np.empty((capacity, PIXELS), np.uint8)  # rows that stay unused are never touched, so take no memory
    titles: list[str] = []
    digests: list[str] = []
    labels: list[np.ndarray] = []
    rows = 0
    with ThreadPoolExecutor(READERS) as pool:
        for path, batch in zip(paths, pool.map(read_batch, paths), strict=True):
            titles.append(batch.title)
            digests.append(batch.md5)
            labels.append(batch.labels)
            if path.name == TEST_FILE:
                test = batch.pixels.copy()
            else:
                train[rows : rows + len(batch.pixels)] = batch.pixels
                rows += len(batch.pixels)
    return [train[:rows], test], [np.concatenate(labels[:-1]), labels[-1]], titles, digests
