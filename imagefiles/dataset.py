"""Images with labels, served in batches, and the three splits of a data set."""

from __future__ import annotations

import argparse
import hashlib
import os
import shlex
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

Part = tuple[np.ndarray, np.ndarray]  # uint8 images (N, channels, height, width), integer labels (N,)
BLOCK = 256  # images whose sum fits into 16 bits


OTHER_KINDS = {  # a file's first bytes, and what it then is
    b"<": "a web page", b"version https://git-lfs": "a pointer of Git LFS, without the file", b"\x1f\x8b": "gzip data",
    b"BZh": "bzip2 data", b"\xfd7zXZ": "xz data", b"PK": "a ZIP archive, as np.savez and torch.save write",
    b"\x93NUMPY": "an array of np.save", b"\x89HDF": "HDF5", b"\x89PNG": "a picture", b"\xff\xd8\xff": "a picture",
    b"\0\0\0\0": "zeros, as an interrupted copy leaves them"}


class DataError(Exception):
    """Data that is missing, truncated, hostile or mixed up: one to three lines with the way out."""


class NoHome(argparse.ArgumentTypeError, ValueError):
    """A ~NAME that is nobody's home: a line with the way out, which argparse prints as it is."""


def seems(content: bytes) -> str:
    """To be said of a file that cannot be read: which other kind it looks like, '' where that is not known."""
    beginning = content[:100].lstrip(b"\t\n\r ")
    return next((f"; it looks like {kind}" for start, kind in OTHER_KINDS.items() if beginning.startswith(start)), "")


def with_home(path: str | os.PathLike[str]) -> str:
    """`path` with ~ replaced by the home folder. Raises NoHome where there is none."""
    name = os.path.expanduser(path)
    if name.startswith("~"):  # which would be made here, as a folder of that name
        raise NoHome(f"{name.partition(os.sep)[0]}: no such home folder; for a folder of this name, write ./{name}")
    return name


def expanded(path: str | os.PathLike[str]) -> Path:
    """`path` from the root, with ~ replaced by the home folder. Raises NoHome."""
    return Path(os.path.abspath(with_home(path)))


def data_folder(path: str | os.PathLike[str]) -> Path:
    """`path` as `expanded` gives it. Raises DataError where it cannot be looked at, as with too long a name."""
    try:
        os.stat(folder := expanded(path))
    except (FileNotFoundError, NotADirectoryError):
        pass
    except NoHome as error:
        raise DataError(str(error)) from None
    except OSError as error:
        raise DataError(f"{folder} cannot be read: {error.strerror}; give another folder") from None
    return folder


def quoted(path: str | os.PathLike[str]) -> str:
    """`path` from the root, as a shell takes it: in bash's $'\\xfc' where a character cannot be printed."""
    def printed(character: str) -> bool:
        try:
            character.encode(getattr(sys.stdout, "encoding", None) or "utf-8")
        except UnicodeEncodeError:
            return False
        return character.isprintable()

    name = os.path.abspath(path)
    if all(map(printed, name)):
        return shlex.quote(name)
    escaped = (c if printed(c) and c not in "\\'" else "".join(f"\\x{byte:02x}" for byte in os.fsencode(c))
               for c in name)
    return f"$'{''.join(escaped)}'"


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

    def __init__(self, images: np.ndarray, labels: np.ndarray, mean: np.ndarray | None = None,
                 seed: int = 0, scale: float = 1.0) -> None:
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
        self._position = 0
        self._start_epoch()

    def __repr__(self) -> str:
        """DataSet(50000 images of 3 x 32 x 32 in uint8, one-hot labels of 10 classes, 0 epochs completed)"""
        labels = f"one-hot labels of {self.labels.shape[1]} classes" if self.labels.ndim == 2 else "integer labels"
        shape = " x ".join(map(str, self.pixels.shape[1:]))
        return (f"DataSet({self.num_examples} images of {shape} in {self.pixels.dtype}, {labels}, "
                f"{self.epochs_completed} epochs completed)")

    @property
    def num_examples(self) -> int:
        """Number of images, N."""
        return len(self.pixels)

    @property
    def served(self) -> int:
        """How many images batches have had so far; this // N is the epoch of the next, from 0."""
        return self.epochs_completed * self.num_examples + self._position

    @property
    def images(self) -> np.ndarray:
        """The whole split as `next_batch` serves it: float32 (N, channels, height, width), made on each access."""
        return self._as_float(self.pixels)

    def next_batch(self, batch_size: int, images: np.ndarray | None = None,
                   labels: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Serves the next samples of the epoch's permutation; each epoch draws its own.

        Args:
            batch_size: number of samples, 1..num_examples.
            images, labels: arrays to fill, such as those of the batch before; None for new ones, which are the
                caller's to keep.

        Returns:
            (images, labels) of exactly `batch_size` samples, the images as float32.

        Raises:
            ValueError: batch_size out of range, or an array to fill of another shape.
        """
        chosen = self.next_indices(batch_size)
        return (self._as_float(self.pixels.take(chosen, axis=0), images),
                self.labels.take(chosen, axis=0, out=labels, mode="clip"))

    def next_indices(self, batch_size: int) -> np.ndarray:
        """Which samples `next_batch` serves, as indices of shape (batch_size,); it draws them, and may raise, alike."""
        if not 1 <= batch_size <= self.num_examples:
            raise ValueError(f"batch_size must be between 1 and the split's {self.num_examples} examples, "
                             f"got {batch_size}")
        chosen = self._order[self._position : self._position + batch_size]
        self._position += len(chosen)
        if self._position == self.num_examples:
            self.epochs_completed += 1
            self._start_epoch()
            missing = batch_size - len(chosen)
            chosen = np.concatenate([chosen, self._order[:missing]])
            self._position = missing
        return chosen

    def batches(self, batch_size: int, reuse: bool = False) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Serves the split once, in order, for evaluation; the last batch may be smaller.

        Args:
            batch_size: number of samples, at least 1.
            reuse: fill the memory of one batch again and again, which is faster: each is gone when the next is served.

        Yields:
            (images, labels), the images as float32.

        Raises:
            ValueError: batch_size below 1.
        """
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        room = np.empty((min(batch_size, self.num_examples), *self.pixels.shape[1:]), np.float32) if reuse else None
        for start in range(0, self.num_examples, batch_size):
            pixels, labels = self.pixels[start : start + batch_size], self.labels[start : start + batch_size]
            yield self._as_float(pixels, None if room is None else room[: len(pixels)]), labels

    def shown(self, batches: Iterable[Any]) -> Iterable[Any]:
        """`batches` of this split as they are; where a run evaluates them, a bar shows how far it is."""
        return batches

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
            examples, epochs, position = (int(state[k]) for k in ("num_examples", "epochs_completed", "position"))
            rng.bit_generator.state = state["bit_generator"]
        except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
            raise ValueError(f"not the state of a DataSet: {error!r}") from None
        if examples != self.num_examples or not 0 <= position < max(examples, 1):
            raise ValueError(f"state of a split of {examples} examples at {position}, "
                             f"this one has {self.num_examples}")
        self._rng = rng
        self._start_epoch()
        self.epochs_completed, self._position = epochs, position

    def _start_epoch(self) -> None:
        self._state_before_order = self._rng.bit_generator.state
        self._order = self._rng.permutation(self.num_examples)
        self._position = 0

    def _as_float(self, pixels: np.ndarray, images: np.ndarray | None = None) -> np.ndarray:
        """`pixels` as they are served, in `images` or, without it, in a new array."""
        if images is None:
            images = np.empty(pixels.shape, np.float32)
        elif images.shape != pixels.shape:  # which NumPy would broadcast
            raise ValueError(f"images to fill must be of shape {pixels.shape}, got {images.shape}")
        images[...] = pixels  # a cast, then in place: faster than a mixed-type subtraction
        if self.mean is not None:
            images -= self.mean
        if self.scale != 1:
            images *= np.float32(self.scale)
        return images


@dataclass(frozen=True, repr=False)
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
    """'CIFAR-10', 'synthetic stand-in' or 'MNIST'."""
    class_names: tuple[str, ...]
    digest: str = ""
    """MD5 of the files' MD5s: the same for the same files, whichever samples of them are held out; '' without files."""

    def __getitem__(self, split: str) -> DataSet:
        if split not in self.keys():
            raise KeyError(f"{split!r}: the splits are {', '.join(self.keys())}")
        return getattr(self, split)

    def __repr__(self) -> str:
        """A line for the whole, and one for each split."""
        parts = "".join(f"\n  {name}: {self[name]!r}" for name in self)
        return f"Splits of {self.name} ({self.state}), {len(self.class_names)} classes:{parts}"

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys())

    def keys(self) -> tuple[str, ...]:
        return ("train", "validation", "test")


def make_splits(train: Part, test: Part, checksums: Iterable[str], validation_size: int, one_hot: bool,
                seed: int, scale: float, **origin: Any) -> Splits:
    """The splits of the training and the test images, all less the mean image of the training split.

    Args:
        train, test: images and labels.
        checksums: MD5s of the files they come from.
        validation_size: this many training images, the first ones, become the validation split.
        one_hot, seed, scale: as `get_cifar10` has them.
        origin: `state`, `name` and `class_names`.

    Raises:
        DataError: validation_size out of range.
    """
    images, labels = train
    if not 0 <= validation_size < len(images):
        raise DataError(f"validation_size must be between 0 and {len(images) - 1}, one less than the "
                        f"training images, got {validation_size}")
    # Integer sums: no float copy of the split, and the same mean on every machine.
    total = np.zeros(images.shape[1:], np.uint32)
    for start in range(validation_size, len(images), BLOCK):
        total += images[start : start + BLOCK].sum(axis=0, dtype=np.uint16)
    mean = (total / (len(images) - validation_size)).astype(np.float32)

    def split(images: np.ndarray, labels: np.ndarray) -> DataSet:
        targets = dense_to_one_hot(labels, len(origin["class_names"])) if one_hot else labels.astype(np.int64)
        return DataSet(images, targets, mean, seed, scale)

    return Splits(
        train=split(images[validation_size:], labels[validation_size:]),
        validation=split(images[:validation_size], labels[:validation_size]),
        test=split(*test),
        mean_image=mean,
        digest=hashlib.md5("".join(checksums).encode(), usedforsecurity=False).hexdigest(),
        **origin,
    )
