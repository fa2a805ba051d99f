"""CIFAR-10's files: what they are called, how each is read and checked, and what they are together.

    from imagefiles.cifar10_files import load_folder, verify_folder
    (pixels, labels), (test_pixels, test_labels), state = load_folder(Path('cifar10/cifar-10-batches-py'))
    for name, verdict in verify_folder(Path('cifar10/cifar-10-batches-py'))[0]: print(name, verdict)
"""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from imagefiles.cifar10_pickle import PickleRefused, read_pickle
from imagefiles.dataset import DataError

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
CHECKSUM_FILE = "MD5SUMS"  # what the stand-in's files had when they were drawn
PIXELS = 3 * 32 * 32
MAX_FILE_BYTES = 64 * 2**20  # a published batch has 31 MB
READERS = 2  # threads, so at most two or three batch files in memory beside the pixels

Part = tuple[np.ndarray, np.ndarray]  # uint8 pixels (N, 3072), int64 labels (N,)


@dataclass(frozen=True)
class Batch:
    """One batch file as it was read."""

    pixels: np.ndarray  # uint8 (N, 3072), a view of the file
    labels: np.ndarray  # int64 (N,)
    title: str  # 'training batch 1 of 5', or '' where the file does not say
    md5: str


def again(folder: Path) -> str:
    """The way out of a damaged folder."""
    return f"remove {folder}, then: python cifar10_utils.py fetch {folder}"


def read_batch(path: Path) -> Batch:
    """Reads and checks one batch file.

    Raises:
        DataError: missing, unreadable, truncated, hostile, or other than N rows of 3072 bytes with N labels in 0..9.
    """
    content = _read_bytes(path)
    batch = _parse(path, content)
    pixels = batch.get("data")
    if not isinstance(pixels, np.ndarray) or "labels" not in batch:
        raise DataError(f"{path} holds no array 'data' with 'labels' beside it; {again(path.parent)}")
    if pixels.dtype != np.uint8 or pixels.ndim != 2 or pixels.shape[1] != PIXELS or not len(pixels):
        raise DataError(
            f"{path} has {pixels.dtype} pixels of shape {pixels.shape}, not uint8 (N, {PIXELS}); {again(path.parent)}"
        )
    labels = batch["labels"]
    if isinstance(labels, list) and set(map(type, labels)) == {int}:  # flat, before NumPy unfolds what is nested
        labels = np.array(labels)
    if not isinstance(labels, np.ndarray) or labels.dtype.kind not in "iu":
        raise DataError(f"{path} has labels that are no integers; {again(path.parent)}")
    if labels.shape != (len(pixels),):
        raise DataError(f"{path} has {len(pixels)} images, but labels of shape {labels.shape}; {again(path.parent)}")
    if labels.min() < 0 or labels.max() > 9:
        raise DataError(f"{path} has labels {labels.min()}..{labels.max()}, not 0..9; {again(path.parent)}")
    return Batch(pixels, labels.astype(np.int64), _text(batch.get("batch_label", "")), _md5(content))


def load_folder(folder: Path) -> tuple[Part, Part, str]:
    """Reads the six batch files, each as `read_batch` does.

    Returns:
        (pixels, labels) of the training and of the test images, and the state of the files: 'published',
        'unpublished' or 'synthetic'.

    Raises:
        DataError: a bad file, or files that stand in for one another.
    """
    paths = [folder / name for name in BATCH_FILES]
    capacity = sum(min(path.stat().st_size, MAX_FILE_BYTES) // PIXELS for path in paths[:-1] if path.exists())
    train = np.empty((capacity, PIXELS), np.uint8)  # rows that stay unused are never touched, so take no memory
    rows = 0
    checksums, labels, titles = [], [], []
    with ThreadPoolExecutor(READERS) as pool:
        for batch in pool.map(read_batch, paths):
            checksums.append(batch.md5)
            labels.append(batch.labels)
            titles.append(batch.title)
            if len(labels) == len(paths):
                test = batch.pixels  # a view of the file, which is hardly larger
            else:
                train[rows : rows + len(batch.pixels)] = batch.pixels
                rows += len(batch.pixels)
    state = _state(folder, checksums, titles)
    return (train[:rows], np.concatenate(labels[:-1])), (test, labels[-1]), state


def _state(folder: Path, checksums: list[str], titles: list[str]) -> str:
    """The state of the six files together; refuses files that stand in for one another."""
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
        DataError: it is there, but is none.
    """
    path = folder / META_FILE
    if not path.exists():
        return CLASS_NAMES
    names = _parse(path, _read_bytes(path)).get("label_names")
    if not isinstance(names, list) or len(names) != 10 or not all(isinstance(name, bytes | str) for name in names):
        raise DataError(f"{path} does not name ten classes; {again(folder)}")
    return tuple(map(_text, names))


def verify_folder(folder: Path) -> tuple[list[tuple[str, str]], str, bool]:
    """Checks every file by itself, then all of them together.

    Returns:
        For each file its name and 'ok', 'unpublished' (sound, but not what was published), 'missing', or what is
        wrong; a line about the whole: its state, or what is wrong; whether all is well.
    """
    verdicts, batches = [], []
    own_checksums = _own_checksums(folder)
    for name in (*BATCH_FILES, META_FILE):
        path = folder / name
        try:
            if not path.exists():
                verdicts.append((name, "missing"))
                continue
            if name == META_FILE:
                read_class_names(folder)
                md5 = _md5(_read_bytes(path))
            else:
                batch = read_batch(path)
                md5 = batch.md5
                batches.append((batch.md5, batch.title))
        except DataError as error:
            verdicts.append((name, str(error)))
            continue
        if md5 in (PUBLISHED_MD5[name], own_checksums.get(name)):
            verdicts.append((name, "ok"))
        else:
            verdicts.append((name, "changed since it was drawn" if name in own_checksums else "unpublished"))
    if all(verdict == "missing" for _, verdict in verdicts):
        return verdicts, f"nothing there; to fetch it: python cifar10_utils.py fetch {folder}", False
    if any(verdict not in ("ok", "unpublished") for _, verdict in verdicts):
        return verdicts, f"not as it should be; {again(folder)}", False
    try:
        return verdicts, _state(folder, [md5 for md5, _ in batches], [title for _, title in batches]), True
    except DataError as error:
        return verdicts, str(error), False


def _own_checksums(folder: Path) -> dict[str, str]:
    """The stand-in's own checksum file, in md5sum's format; empty where there is none."""
    try:
        lines = (folder / CHECKSUM_FILE).read_text("ascii").splitlines()
    except (OSError, ValueError):
        return {}
    return {name: md5 for md5, _, name in (line.partition("  ") for line in lines)}


def _read_bytes(path: Path) -> bytes:
    try:
        if path.exists() and not path.is_file():  # reading a pipe or a device may never end
            raise DataError(f"{path} is no file; {again(path.parent)}")
        if path.stat().st_size > MAX_FILE_BYTES:
            raise DataError(f"{path} has {path.stat().st_size:,} bytes, a batch file has about 31 million")
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}; {again(path.parent)}") from None


def _parse(path: Path, content: bytes) -> dict[str, Any]:
    try:
        return read_pickle(content)
    except PickleRefused as error:
        raise DataError(f"{path} {error}; {again(path.parent)}") from None


def _md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def _text(value: Any) -> str:
    """A text, '' where the pickle has anything else."""
    return value.decode("latin1") if isinstance(value, bytes) else value if isinstance(value, str) else ""
