"""CIFAR-10 as two lines of Python.

    import cifar10_utils
    cifar10 = cifar10_utils.get_cifar10('cifar10/cifar-10-batches-py')
    x, y = cifar10['train'].next_batch(200)             # float32 (200, 3, 32, 32), one-hot (200, 10)
    x, y = cifar10.test.images, cifar10.test.labels     # the whole test split, float32 (10000, 3, 32, 32)

The six batch files are pickles; `cifar10_pickle` reads them without running them. Pixels stay uint8 in memory and
become float32 a batch at a time, on the scale 0..255 with the training split's mean image subtracted.

From the shell:

    python cifar10_utils.py fetch                       # the published files, 170 MB, into ./cifar10
    python cifar10_utils.py fetch DIR --or-standin      # ... or else the stand-in, never silently
    python cifar10_utils.py verify DIR                  # each file: ok, unpublished, missing, or what is wrong
    python cifar10_utils.py standin DIR                 # synthetic pictures in the same format, no network needed
    python cifar10_utils.py standin DIR --train_size 500 --test_size 100 --seed 1

DIR is ./cifar10/cifar-10-batches-py unless given. CIFAR10_URL names a mirror to ask first. A download that broke off is
continued by the same command. Where no network is, bring cifar-10-python.tar.gz by hand and put it beside DIR: `fetch`
checks and unpacks it. Exit status: 0, or 2 where the data is not as it should be.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from imagefiles.cifar10_files import (
    BATCH_FILES,
    SYNTHETIC,
    again,
    load_folder,
    read_batch,
    read_class_names,
    verify_folder,
)
from imagefiles.dataset import DataError, DataSet, Splits, dense_to_one_hot

__all__ = ["DATA_DIR", "DataError", "DataSet", "Splits", "dense_to_one_hot", "get_cifar10", "read_batch"]
DATA_DIR = "cifar10/cifar-10-batches-py"


def get_cifar10(
    data_dir: str | os.PathLike[str] = DATA_DIR,
    one_hot: bool = True,
    validation_size: int = 0,
    seed: int = 0,
    download: bool = True,
    progress: bool | None = None,
    scale: float = 1,
) -> Splits:
    """Loads CIFAR-10, fetching it first where `data_dir` has none of it.

    Args:
        data_dir: folder of the six batch files.
        one_hot: labels as float32 (N, 10) one-hot rows; else int64 (N,).
        validation_size: this many training images, the first ones, become the validation split.
        seed: of the order in which `next_batch` serves.
        download: fetch the published archive where the files are missing.
        progress: show a progress bar while fetching; None: where stderr is a terminal.
        scale: of the pixels.

    Returns:
        The splits train, validation and test: pixels on the scale 0..255, less the mean image of the training split,
        times `scale`.

    Raises:
        DataError: data missing, truncated, hostile or mixed up, or validation_size out of range.
    """
    folder = _locate(Path(data_dir), download, progress)
    (train_pixels, train_labels), (test_pixels, test_labels), state = load_folder(folder)
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
        return DataSet(pixels.reshape(-1, 3, 32, 32), targets, mean, seed, scale)

    return Splits(
        train=split(train_pixels[validation_size:], train_labels[validation_size:]),
        validation=split(train_pixels[:validation_size], train_labels[:validation_size]),
        test=split(test_pixels, test_labels),
        mean_image=mean,
        state=state,
        name="synthetic stand-in" if state == SYNTHETIC else "CIFAR-10",
        class_names=read_class_names(folder),
    )


def _locate(folder: Path, download: bool, progress: bool | None) -> Path:
    """The folder that has the batch files: `folder`, its subfolder of the published name, or `folder` once fetched."""
    for candidate in (folder, folder / Path(DATA_DIR).name):
        missing = [name for name in BATCH_FILES if not os.path.exists(candidate / name)]
        if not missing:
            return candidate
        if len(missing) < len(BATCH_FILES):
            raise DataError(f"{candidate} lacks {', '.join(missing)}; {again(candidate)}")
    why = f"no CIFAR-10 in {folder}"
    if download:
        from imagefiles.cifar10_download import DownloadError, fetch

        try:
            fetch(folder, progress=progress)
            return folder
        except DownloadError as error:
            why = f"{why}, and it could not be fetched ({error})"
    raise DataError(
        f"{why}\n"
        f"to fetch it: python cifar10_utils.py fetch {folder}  (or put cifar-10-python.tar.gz into {folder.parent})\n"
        f"to go without: python cifar10_utils.py standin {folder}  (synthetic pictures; or name another --data_dir)"
    )


NOTICE = """\
+----------------------------------------------------------------------+
|  THIS IS NOT CIFAR-10 but the SYNTHETIC STAND-IN: drawn shapes.      |
|  What is measured on it says nothing about CIFAR-10.                 |
+----------------------------------------------------------------------+
For the published files: remove {folder}, then: python cifar10_utils.py fetch {folder}"""


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="cifar10_utils.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="fetch|verify|standin")
    fetch = commands.add_parser("fetch", help="fetch the published files where the folder has none")
    fetch.add_argument("--or-standin", "--or_standin", action="store_true", help="draw the stand-in if that fails")
    standin = commands.add_parser("standin", help="draw synthetic pictures in the same format")
    standin.add_argument("--train_size", type=int, default=50_000, help="training images (default 50000)")
    standin.add_argument("--test_size", type=int, default=10_000, help="test images (default 10000)")
    standin.add_argument("--seed", type=int, default=0, help="the same seed draws the same pictures (default 0)")
    check = commands.add_parser("verify", help="check every file")
    for command in (fetch, check, standin):
        command.add_argument("folder", nargs="?", type=Path, default=Path(DATA_DIR), metavar="DIR",
                             help=f"default {DATA_DIR}")  # fmt: skip
    flags = parser.parse_args(arguments)
    try:
        return {"fetch": _fetch, "verify": _verify, "standin": _standin}[flags.command](flags)
    except DataError as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"{parser.prog}: interrupted; run it again to continue", file=sys.stderr)
        return 130


def _fetch(flags: argparse.Namespace) -> int:
    from imagefiles.cifar10_download import is_filled

    try:
        folder = _locate(flags.folder, download=True, progress=None)
    except DataError as error:
        if not flags.or_standin or is_filled(flags.folder):
            raise
        print(f"{flags.folder} gets the stand-in: {error.args[0].splitlines()[0]}", file=sys.stderr)
        folder = _draw(flags.folder)
    state = load_folder(folder)[2]
    print(f"{folder}: {state}")
    if state == SYNTHETIC:
        print(NOTICE.format(folder=folder), file=sys.stderr)
        return 0 if flags.or_standin else 2
    return 0


def _verify(flags: argparse.Namespace) -> int:
    inner = flags.folder / Path(DATA_DIR).name  # as in _locate: only where the folder itself has none of the files
    own = any((flags.folder / name).exists() for name in BATCH_FILES)
    folder = inner if inner.is_dir() and not own else flags.folder
    verdicts, whole, well = verify_folder(folder)
    for name, verdict in verdicts:
        print(f"{name:13} {verdict}")
    print(f"{folder}: {whole}")
    return 0 if well else 2


def _standin(flags: argparse.Namespace) -> int:
    print(f"{_draw(flags.folder, flags.train_size, flags.test_size, flags.seed)}: {SYNTHETIC}")
    return 0


def _draw(folder: Path, *arguments: int) -> Path:
    from imagefiles.cifar10_standin import make_standin

    try:
        make_standin(folder, *arguments)
    except ValueError as error:
        raise DataError(str(error)) from None
    except OSError as error:
        raise DataError(f"cannot write {folder}: {error.strerror}; choose another folder") from None
    return folder


if __name__ == "__main__":
    sys.exit(main())
