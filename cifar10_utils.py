"""CIFAR-10 as two lines of Python.

    import cifar10_utils
    cifar10 = cifar10_utils.get_cifar10('cifar10/cifar-10-batches-py')
    x, y = cifar10['train'].next_batch(200)             # float32 (200, 3, 32, 32), one-hot (200, 10)
    x, y = cifar10.test.images, cifar10.test.labels     # the whole test split, float32 (10000, 3, 32, 32)

The six batch files are pickles; `cifar10_pickle` reads them without running them. Pixels stay uint8 in memory and
become float32 a batch at a time, on the scale 0..255 with the training split's mean image subtracted.

From the shell (`imagefiles/commands.py`):

    python cifar10_utils.py fetch                       # the published files, 170 MB, into ./cifar10
    python cifar10_utils.py fetch DIR --or-standin      # ... or else the stand-in, never silently
    python cifar10_utils.py verify DIR                  # each file: ok, unpublished, missing, or what is wrong
    python cifar10_utils.py standin DIR                 # synthetic pictures in the same format, no network needed
    python cifar10_utils.py standin DIR --train_size 500 --test_size 100 --seed 1

DIR is ./cifar10/cifar-10-batches-py unless given. CIFAR10_URL names a mirror to ask first. The same command
continues a download that broke off. Without a network, put cifar-10-python.tar.gz beside DIR by hand: `fetch` checks
and unpacks it. Exit status: 0, or 2 where the data is not as it should be.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from imagefiles.cifar10_files import FOLDER_NAME, SYNTHETIC, find_folder, load_folder, read_batch, read_class_names
from imagefiles.dataset import DataError, DataSet, Splits, data_folder, dense_to_one_hot, make_splits

__all__ = ["DATA_DIR", "DataError", "DataSet", "Splits", "dense_to_one_hot", "get_cifar10", "read_batch"]
DATA_DIR = f"cifar10/{FOLDER_NAME}"


def get_cifar10(data_dir: str | os.PathLike[str] = DATA_DIR, one_hot: bool = True, validation_size: int = 0,
                seed: int = 0, download: bool = True, progress: bool | None = None, scale: float = 1) -> Splits:
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
    folder = data_folder(data_dir)
    found = find_folder(folder)
    if found is None:
        from imagefiles.cifar10_missing import obtain  # what a download needs is only loaded where there is one

        found = obtain(folder, download, progress)
    files = load_folder(found)
    return make_splits(
        files.train, files.test, files.checksums, validation_size, one_hot, seed, scale,
        state=files.state,
        name="synthetic stand-in" if files.state == SYNTHETIC else "CIFAR-10",
        class_names=read_class_names(found),
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    from imagefiles.commands import run  # which no training script needs

    return run(__doc__, DATA_DIR, arguments)


if __name__ == "__main__":
    sys.exit(main())
