"""Loading CIFAR-10 beside reading and checksumming its bytes, and a batch beside the copy it has to make.

    python -m benchmarks.bench_data --data_dir ./cifar10/cifar-10-batches-py

Loading is `get_cifar10`: six files read, checksummed, parsed without being run, and copied into one array of bytes, and
the mean image. The copy a batch has to make: the chosen rows of bytes, as float32, less the mean image. Memory is
measured in processes of their own, over that of an interpreter with NumPy. The files are in the page cache.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np

from benchmarks.timing import by_turns, ratio, spread
from cifar10_standin import draw
from cifar10_utils import BATCH_FILES, DATA_DIR, DataError, get_cifar10

ROOT = Path(__file__).parent.parent


def loading(folder: Path) -> None:
    paths = [folder / name for name in BATCH_FILES]

    def read() -> None:
        for path in paths:
            path.read_bytes()

    def read_and_checksum() -> None:
        for path in paths:
            hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()

    def unpickle() -> None:
        for path in paths:
            pickle.loads(path.read_bytes(), encoding="bytes")

    seconds = by_turns(
        {
            "get_cifar10": lambda: get_cifar10(folder, download=False),
            "reading the bytes": read,
            "reading the bytes and their MD5": read_and_checksum,
            "reading and pickle.loads": unpickle,
        },
        rounds=11,
    )
    for name, values in seconds.items():
        print(f"{name:34} {spread(values, 'ms', 1e3)}")
    for name in list(seconds)[1:]:
        print(f"{'get_cifar10 /':14}{name:34} {spread(ratio(seconds, 'get_cifar10', name), 'x')}")


def memory(folder: Path) -> None:
    code = (
        "import sys, numpy, cifar10_utils\n"
        "def peak(): return int(open('/proc/self/status').read().split('VmHWM:')[1].split()[0]) / 1024\n"
        "before = peak()\n"
        "data = cifar10_utils.get_cifar10(sys.argv[1], download=False)\n"
        "print(peak() - before)"
    )
    command = [sys.executable, "-c", code, str(folder)]
    peaks = [float(subprocess.check_output(command, cwd=ROOT)) for _ in range(5)]
    pixels = 60_000 * 3072 / 2**20
    print(f"{'peak memory of get_cifar10':34} {spread(peaks, 'MiB')}, of which the pixels are {pixels:.0f}")


def batches(folder: Path, batch_size: int = 200) -> None:
    train = get_cifar10(folder, download=False).train
    assert train.mean is not None
    pixels, mean, labels = train.pixels, train.mean, train.labels
    rng = np.random.default_rng(0)

    def copy() -> tuple[np.ndarray, np.ndarray]:
        rows = rng.integers(0, len(pixels), batch_size)
        images = pixels[rows].astype(np.float32)
        images -= mean
        return images, labels[rows]

    seconds = by_turns({"next_batch": lambda: train.next_batch(batch_size), "the copy": copy}, rounds=31, calls=50)
    for name, values in seconds.items():
        print(f"{f'{name}, batch of {batch_size}':34} {spread(values, 'µs', 1e6)}")
    print(f"{'next_batch / the copy':34} {spread(ratio(seconds, 'next_batch', 'the copy'), 'x')}")


def drawing() -> None:
    seconds = by_turns({"draw": lambda: draw(2000, np.random.default_rng(0))}, rounds=5)["draw"]
    print(f"{'stand-in, 60,000 images drawn':34} {spread(seconds, 's', 30)}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data_dir", type=Path, default=Path(os.environ.get("CIFAR10_DIR", DATA_DIR)),
                        help=f"default: $CIFAR10_DIR, else {DATA_DIR}")
    folder = parser.parse_args().data_dir
    try:
        state = get_cifar10(folder, download=False).state
    except DataError as error:
        print(error, file=sys.stderr)
        return 2
    print(f"{folder.name}, {state}; NumPy {np.__version__}, Python {sys.version.split()[0]}; median [quartiles]\n")
    loading(folder)
    memory(folder)
    batches(folder)
    drawing()
    return 0


if __name__ == "__main__":
    sys.exit(main())
