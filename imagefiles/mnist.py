"""MNIST, served by the same `DataSet` as CIFAR-10.

    from imagefiles.mnist import get_mnist
    mnist = get_mnist('mnist')
    x, y = mnist.train.next_batch(64)       # float32 (64, 1, 28, 28), one-hot (64, 10)

Pixels, less the mean image as CIFAR-10's, are divided by the standard deviation of all training pixels: inputs of about
unit size, on which plain SGD with its small learning rates makes progress.
"""

from __future__ import annotations

import gzip
import math
import os
import zlib
from pathlib import Path

import numpy as np

from imagefiles.checksums import md5_of
from imagefiles.dataset import DataError, Splits, data_folder, make_splits, seems
from imagefiles.filling import held_by, place_for

# Raw file, magic number (LeCun's IDX: unsigned bytes, number of dimensions), MD5 as published
FILES = {
    "train-images-idx3-ubyte": (2051, "6bbc9ace898e44ae57da46a324031adb"),
    "train-labels-idx1-ubyte": (2049, "a25bea736e30d166cdddb491f175f624"),
    "t10k-images-idx3-ubyte": (2051, "2646ac647ad5339dbf082846283269ea"),
    "t10k-labels-idx1-ubyte": (2049, "27ae3e4e09519cfbb04c329615203637"),
}
MAX_FILE_BYTES = 256 * 2**20
SIDE = 28
AGAIN = "fetch it again: remove it, and the next run downloads it"
PIXEL_STD = 78.57  # of all training pixels, on the scale 0..255; on the scale 0..1 the usual 0.3081


def read_idx(path: Path, magic: int) -> tuple[np.ndarray, str]:
    """One IDX file, raw or .gz, as a uint8 array, and the MD5 of its raw content.

    Raises:
        DataError: unreadable, truncated, too long, or of another magic number.
    """
    try:
        with gzip.open(path) if path.suffix == ".gz" else open(path, "rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read ({error}); {AGAIN}") from None
    dimensions = magic % 256
    header = 4 + 4 * dimensions
    if len(content) < header or int.from_bytes(content[:4], "big") != magic:
        raise DataError(f"{path} does not begin with the magic number {magic} of its kind{seems(content)}; "
                        f"{AGAIN}")
    shape = tuple(int.from_bytes(content[at:at + 4], "big") for at in range(4, header, 4))
    expected = header + math.prod(shape)
    if len(content) != expected:
        raise DataError(f"{path} has {len(content):,} bytes where its header announces {expected:,}; {AGAIN}")
    if 0 in shape:  # the other sizes may then be anything, even larger than an array can be
        raise DataError(f"{path} holds nothing, its header announces the shape {shape}; {AGAIN}")
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape), md5_of(content)


def find_files(data_dir: Path) -> dict[str, Path] | None:
    """The four files in data_dir, in raw or MNIST/raw in it, or in MNIST/raw one deeper; None where one is missing.

    Each is raw or .gz, named with dots or dashes, and lies in the folder or in one of its own name, as mirrors have it.
    """
    for folder in (data_dir, data_dir / "raw", data_dir / "MNIST" / "raw", *sorted(data_dir.glob("*/MNIST/raw"))):
        found: dict[str, Path] = {}
        for name in FILES:
            spellings = (name, name.replace("-idx", ".idx"))
            paths = (folder / place / f"{spelling}{suffix}" for spelling in spellings
                     for place in ("", *spellings) for suffix in ("", ".gz"))
            if (path := next(filter(Path.is_file, paths), None)) is not None:
                found[name] = path
        if len(found) == len(FILES):
            return found
    return None


def _fetch(data_dir: Path) -> str:
    """Let torchvision fetch the files; returns what went wrong, or ''."""
    try:
        from torchvision.datasets import MNIST  # only here: torch is not needed to read the files

        from imagefiles.cifar10_download import proxy_of

        with place_for(data_dir / "MNIST" / "raw"):  # where torchvision writes
            MNIST(str(data_dir), download=True)
    except ImportError:
        return "torchvision is not installed"
    except (RuntimeError, OSError, ValueError) as error:
        return (" ".join(str(error).split()) or type(error).__name__) + proxy_of(getattr(MNIST, "mirrors", [""])[0])
    return ""


def get_mnist(data_dir: str | os.PathLike[str] = "mnist", one_hot: bool = True, validation_size: int = 0,
              seed: int = 0, download: bool = True, scale: float = 1 / PIXEL_STD) -> Splits:
    """Loads MNIST, letting torchvision fetch it first where `data_dir` has none of it.

    Args:
        data_dir: folder of the four IDX files (or of raw/, or of MNIST/raw/, as torchvision leaves them, or one above).
        one_hot: labels as float32 (N, 10) one-hot rows; else int64 (N,).
        validation_size: this many training images, the first ones, become the validation split.
        seed: of the order in which `next_batch` serves.
        download: fetch missing files.
        scale: of the pixels.

    Returns:
        The splits train, validation and test, images of shape (N, 1, 28, 28): pixels on the scale 0..255, less the mean
        image of the training split, times `scale`.

    Raises:
        DataError: data missing, truncated, mixed up or another data set's, or validation_size out of range.
    """
    folder = data_folder(data_dir)
    reason = "not fetched"
    if (files := find_files(folder)) is None and download:
        reason = _fetch(folder)
        files = find_files(folder)
    if files is None:
        found = held_by(folder, known={})
        raise DataError(f"MNIST is not in {folder}{f', which {found}' if found else ''} ({reason})\n"
                        f"put {', '.join(FILES)} there, raw or .gz,\n"
                        "or name their folder with --data_dir")
    read = {name: read_idx(files[name], magic) for name, (magic, _) in FILES.items()}
    train_pixels, train_labels, test_pixels, test_labels = (array for array, _ in read.values())
    for part, pixels, labels in (("train", train_pixels, train_labels), ("t10k", test_pixels, test_labels)):
        if pixels.shape[1:] != (SIDE, SIDE):
            raise DataError(f"{folder}: the {part} images are of shape {pixels.shape}, not (N, {SIDE}, {SIDE})")
        if len(pixels) != len(labels):
            raise DataError(f"{folder}: {len(pixels)} {part} images, but {len(labels)} labels")
        if labels.max() > 9:
            raise DataError(f"{folder}: {part} labels up to {labels.max()}, not 0..9")
    if np.bincount(train_labels).tolist() == [6_000] * 10:  # MNIST has from 5,421 to 6,742
        raise DataError(f"{folder} holds Fashion-MNIST or KMNIST, whose files have the names of MNIST's; name the "
                        "folder of MNIST's with --data_dir")
    checksums = [md5 for _, md5 in read.values()]
    return make_splits(
        (train_pixels[:, None], train_labels), (test_pixels[:, None], test_labels), checksums, validation_size, one_hot,
        seed, scale,
        state="published" if checksums == [md5 for _, md5 in FILES.values()] else "unpublished",
        name="MNIST",
        class_names=tuple("0123456789"),
    )
