"""Small CIFAR-10-format folders for the tests."""

from pathlib import Path

import numpy as np

from imagefiles.cifar10_files import BATCH_FILES, TITLES
from imagefiles.cifar10_standin import write_pickle


def batch(number: int, n: int = 4) -> dict:
    """The content of the batch file of this number, 0..5."""
    pixels = np.random.default_rng(number).integers(0, 256, (n, 3072), np.uint8)
    return {"batch_label": list(TITLES.values())[number], "labels": [i % 10 for i in range(n)], "data": pixels}


def write_batches(parent: Path) -> Path:
    """Six small sound batch files."""
    folder = parent / "cifar-10-batches-py"
    folder.mkdir()
    for number, name in enumerate(BATCH_FILES):
        (folder / name).write_bytes(write_pickle(batch(number)))
    return folder
