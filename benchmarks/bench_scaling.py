"""Cost against size: batch, width, depth and data doubled again and again, and the slope of log time over log size.

A slope of 1 is a cost in proportion to the size, 0 one that does not feel it. All sizes of a line take turns; the slope
is fitted in each round, and its median and quartiles over the rounds are reported. Loading is measured on folders of
random pixels in the published format.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from benchmarks.bench_mlp import BATCH, numpy_step
from benchmarks.rows import Row, Spread
from benchmarks.timing import Function, by_turns
from cifar10_utils import DataSet, get_cifar10
from imagefiles.cifar10_files import TITLES
from imagefiles.cifar10_standin import write_pickle
from mlp_numpy import MLP
from train_mlp_numpy import evaluate


def doubled(first: int, times: int = 5) -> list[int]:
    return [first * 2**i for i in range(times)]


def growth(name: str, setting: str, functions: dict[int, Function], rounds: int, calls: int = 1) -> Row:
    """The row of one line: seconds at each size, and the exponent."""
    seconds = by_turns({str(size): function for size, function in functions.items()}, rounds, calls)
    by_round = np.array(list(seconds.values())).T                     # (rounds, sizes)
    logs = np.log(list(functions))
    slopes = [float(np.polyfit(logs, np.log(times), 1)[0]) for times in by_round]
    last = Spread.of(list(seconds.values())[-1])
    return Row(name, setting, last, rounds, sizes={size: Spread.of(values).median for size, values in seconds.items()},
               exponent=Spread.of(slopes))


def random_split(number: int, one_hot: bool = True) -> DataSet:
    rng = np.random.default_rng(number)
    labels = rng.integers(0, 10, number)
    pixels = rng.integers(0, 256, (number, 3, 32, 32), np.uint8)
    return DataSet(pixels, np.eye(10, dtype=np.float32)[labels] if one_hot else labels,
                   np.full((3, 32, 32), 127.5, np.float32))


def write_folder(folder: Path, number: int) -> Path:
    """Six batch files with `number` images together."""
    folder.mkdir()
    for i, (name, title) in enumerate(TITLES.items()):
        split = random_split(number // len(TITLES) + i, one_hot=False)  # a size of its own: no file copies another
        (folder / name).write_bytes(write_pickle({
            "batch_label": title, "labels": split.labels.tolist(), "data": split.pixels.reshape(-1, 3072),
            "filenames": [f"{k:06d}.png" for k in range(len(split.pixels))]}))
    return folder


def rows(quick: bool) -> list[Row]:
    rounds, calls, first = (2, 1, 30) if quick else (11, 3, 2_000)
    step = "NumPy step, float32"
    found = [
        growth("Batch", f"{step}, 3072-100-10", {n: numpy_step(n) for n in doubled(100)}, rounds, calls),
        growth("Width", f"{step}, one hidden layer, batch {BATCH}", {n: numpy_step(hidden=[n]) for n in doubled(50)},
               rounds, calls),
        growth("Depth", f"{step}, hidden layers of 256 units, batch {BATCH}",
               {n: numpy_step(hidden=[256] * n) for n in doubled(1)}, rounds, calls),
    ]
    splits = {n: random_split(n) for n in doubled(first)}
    model = MLP(3072, [100], 10)
    with tempfile.TemporaryDirectory() as folder:
        written = {n: write_folder(Path(folder, str(n)), n) for n in doubled(first)}
        found += [
            growth("Data", "loading", {n: lambda path=path: get_cifar10(path, download=False)  # type: ignore[misc]
                                       for n, path in written.items()}, rounds),
            growth("Data", "evaluation in NumPy, 3072-100-10",
                   {n: lambda split=split: evaluate(model, split) for n, split in splits.items()},  # type: ignore[misc]
                   rounds),
            growth("Data", "next_batch of 20", {n: lambda split=split: split.next_batch(20)  # type: ignore[misc]
                                                for n, split in splits.items()}, rounds, calls if quick else 100),
        ]
    return found
