"""The data sets that --dataset knows. A new one is a function that gives `Splits`, and a row in `DATASETS`.

The function takes what `get_cifar10` takes: folder, one_hot, validation_size, seed, scale. Everything else, such as the
number of classes and the shape of an image, is counted from what it returns.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from cifar10_utils import Splits, get_cifar10
from imagefiles.mnist import PIXEL_STD, get_mnist


@dataclass(frozen=True)
class Source:
    """load: gives the splits. folder: where its files are unless --data_dir says otherwise.

    pixel_std: standard deviation of all training pixels less the mean image, roughly, on the scale 0..255.
    """

    load: Callable[..., Splits]
    folder: str
    pixel_std: float


DATASETS = {
    "cifar10": Source(get_cifar10, "./cifar10/cifar-10-batches-py", 63.4),
    "mnist": Source(get_mnist, "./mnist", PIXEL_STD),
}
