"""CIFAR-10's files: what they are called, how each is read and checked, and what they are together.

    from imagefiles.cifar10_files import find_folder, load_folder
    folder = find_folder(Path('cifar10'))      # None where it holds no CIFAR-10
    files = load_folder(folder)
    (pixels, labels), state = files.train, files.state      # uint8 (50000, 3, 32, 32), int64 (50000,)
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from imagefiles.checksums import ChecksumCache, md5_of
from imagefiles.cifar10_pickle import MAX_FILE_BYTES, PickleRefused, read_pickle
from imagefiles.dataset import DataError, Part, quoted, seems

CLASS_NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
TITLES = {  # what each batch file says it is
    **{f"data_batch_{i}": f"training batch {i} of 5" for i in range(1, 6)},
    "test_batch": "testing batch 1 of 1",
}
BATCH_FILES = tuple(TITLES)  # five to train on, one to test on
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
SYNTHETIC = "synthetic"  # first word of the stand-in's titles
PIXELS = 3 * 32 * 32
FOLDER_NAME = "cifar-10-batches-py"
SHAPE = (3, 32, 32)
READERS = 2  # threads, so at most two or three batch files in memory beside the pixels


@dataclass(frozen=True)
class Batch:
    """One batch file as it was read."""

    pixels: np.ndarray  # uint8 (N, 3072), a view of the file where possible
    labels: np.ndarray  # int64 (N,)
    title: str  # 'training batch 1 of 5', or '' where the file does not say
    md5: str


@dataclass(frozen=True)
class Files:
    """All six batch files as they were read."""

    train: Part
    test: Part
    state: str  # 'published', 'unpublished' or 'synthetic'
    checksums: list[str]


def again(folder: Path) -> str:
    """The way out of a damaged folder."""
    return f"move {quoted(folder)} away, then: python cifar10_utils.py fetch {quoted(folder)}"


def find_folder(folder: Path) -> Path | None:
    """`folder`, or its subfolder of the published name, whichever holds the batch files; None where neither does.

    Raises:
        DataError: some of the files are missing.
    """
    for candidate in (folder, folder / FOLDER_NAME):
        missing = [name for name in BATCH_FILES if not os.path.exists(candidate / name)]
        if not missing:
            return candidate
        if len(missing) < len(BATCH_FILES):
            raise DataError(f"{candidate} lacks {', '.join(missing)}; {again(candidate)}")
    return None


def read_batch(path: Path, cache: ChecksumCache | None = None) -> Batch:
    """Reads and checks one batch file.

    Args:
        path: of the file.
        cache: may know the file's MD5; None: it is computed.

    Raises:
        DataError: missing, unreadable, truncated, hostile, or other than N images with N labels in 0..9.
    """
    content, status = read_bytes(path)
    batch = _parse(path, content, "data", "labels", "batch_label", "fine_labels")
    if "fine_labels" in batch:
        raise DataError(f"{path} is of CIFAR-100, not of CIFAR-10; {again(path.parent)}")
    pixels = batch.get("data")
    if not isinstance(pixels, np.ndarray) or "labels" not in batch:
        raise DataError(f"{path} holds no array 'data' with 'labels' beside it; {again(path.parent)}")
    shape = pixels.shape
    if shape[1:] == (32, 32, 3):
        pixels = pixels.transpose(0, 3, 1, 2)
    if shape[1:] not in ((PIXELS,), SHAPE, (32, 32, 3)) or not len(pixels):
        raise DataError(f"{path} has pixels of shape {shape}, not (N, {PIXELS}); {again(path.parent)}")
    labels = batch["labels"]
    if isinstance(labels, list) and set(map(type, labels)) <= {int, float}:  # before NumPy unfolds what is nested
        labels = np.array(labels)
    if not isinstance(labels, np.ndarray) or labels.dtype.kind not in "iuf":
        raise DataError(f"{path} has labels that are not integers; {again(path.parent)}")
    if labels.shape != (len(pixels),):
        raise DataError(f"{path} has {len(pixels)} images, but labels of shape {labels.shape}; {again(path.parent)}")
    return Batch(
        pixels=_whole(path, "pixels", pixels, np.uint8, 255).reshape(-1, PIXELS),
        labels=_whole(path, "labels", labels, np.int64, 9),
        title=_text(batch.get("batch_label", "")),
        md5=cache.md5(path, content, status) if cache else md5_of(content),
    )


def _whole(path: Path, what: str, values: np.ndarray, dtype: type, largest: int) -> np.ndarray:
    """`values` as `dtype`, in rows. Raises DataError unless all are whole numbers in 0..largest."""
    if values.dtype == np.uint8 and largest == 255:
        return values
    with np.errstate(invalid="ignore"):  # what is not a number fails the comparison
        whole: np.ndarray = values.astype(dtype)
    if not (whole == values).all() or whole.min() < 0 or whole.max() > largest:
        raise DataError(f"{path} has {values.dtype} {what} {values.min():g}..{values.max():g}, not all of them whole "
                        f"numbers in 0..{largest}; {again(path.parent)}")
    return whole


def load_folder(folder: Path) -> Files:
    """Reads the six batch files, each as `read_batch` does.

    Raises:
        DataError: a bad file, or files in one another's place.
    """
    paths = [folder / name for name in BATCH_FILES]
    cache = ChecksumCache()
    capacity = sum(min(path.stat().st_size, MAX_FILE_BYTES) // PIXELS for path in paths[:-1] if path.exists())
    train = np.empty((capacity, PIXELS), np.uint8)  # rows that stay unused are never touched, so take no memory
    rows = 0
    checksums, labels, titles = [], [], []
    with ThreadPoolExecutor(READERS) as pool:
        for batch in pool.map(lambda path: read_batch(path, cache), paths):
            checksums.append(batch.md5)
            labels.append(batch.labels)
            titles.append(batch.title)
            if len(labels) == len(paths):
                test = batch.pixels  # a view of the file, which is hardly larger
            else:
                train[rows : rows + len(batch.pixels)] = batch.pixels
                rows += len(batch.pixels)
    state = state_of(folder, checksums, titles)
    cache.save()
    return Files((train[:rows].reshape(-1, *SHAPE), np.concatenate(labels[:-1])),
                 (test.reshape(-1, *SHAPE), labels[-1]), state, checksums)


def state_of(folder: Path, checksums: Sequence[str], titles: Sequence[str]) -> str:
    """The state of the six files together. Raises DataError where one is in another's place."""
    synthetic = [title.startswith(SYNTHETIC) for title in titles]
    if any(synthetic) != all(synthetic):
        raise DataError(f"{folder} mixes files of CIFAR-10 with the stand-in's; {again(folder)}")
    for i, (name, title) in enumerate(zip(BATCH_FILES, titles, strict=True)):
        found = title.removeprefix(f"{SYNTHETIC} ")
        if found in TITLES.values() and found != TITLES[name]:
            raise DataError(f"{folder / name} holds the {found!r}, not the {TITLES[name]!r}; {again(folder)}")
        if checksums[i] in checksums[:i]:
            original = BATCH_FILES[checksums.index(checksums[i])]
            raise DataError(f"{folder / name} is a copy of {original}; {again(folder)}")
    if checksums == [PUBLISHED_MD5[name] for name in BATCH_FILES]:
        return "published"
    return "synthetic" if all(synthetic) else "unpublished"


def read_class_names(folder: Path) -> tuple[str, ...]:
    """What batches.meta says; the published names where it is missing.

    Raises:
        DataError: it is there, but does not name ten classes.
    """
    path = folder / META_FILE
    if not path.exists():
        return CLASS_NAMES
    names = _parse(path, read_bytes(path)[0], "label_names").get("label_names")
    if not isinstance(names, list) or len(names) != 10 or not all(isinstance(name, bytes | str) for name in names):
        raise DataError(f"{path} does not name ten classes; {again(folder)}")
    return tuple(map(_text, names))


def read_bytes(path: Path) -> tuple[bytes, os.stat_result]:
    """The file's content, and its status before it was read. Raises DataError where it cannot be a batch file."""
    try:
        if path.exists() and not path.is_file():  # reading a pipe or a device may never end
            raise DataError(f"{path} is not a file; {again(path.parent)}")
        with path.open("rb", buffering=0) as file:
            status = os.fstat(file.fileno())
            if status.st_size > MAX_FILE_BYTES:
                raise DataError(f"{path} has {status.st_size:,} bytes, a batch file has about 31 million; "
                                f"{again(path.parent)}")
            return file.read(), status
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}; {again(path.parent)}") from None


def _parse(path: Path, content: bytes, *keys: str) -> dict[str, Any]:
    try:
        return read_pickle(content, keys)
    except PickleRefused as error:
        raise DataError(f"{path} {error}{seems(content)}; {again(path.parent)}") from None


def _text(value: Any) -> str:
    """A text, '' where the pickle has anything else."""
    return value.decode("latin1") if isinstance(value, bytes) else value if isinstance(value, str) else ""
