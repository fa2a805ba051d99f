"""The data sets that --dataset knows. A new one is a function that gives `Splits`, and a row in `DATASETS`.

The function takes what `get_cifar10` takes: folder, one_hot, validation_size, seed, scale. Everything else, such as the
number of classes and the shape of an image, is counted from what it returns.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from cifar10_utils import DataError, Splits, get_cifar10
from imagefiles.mnist import PIXEL_STD, get_mnist


@dataclass(frozen=True)
class Source:
    """function: gives the splits. folder: where its files are unless --data_dir says otherwise.

    pixel_std: standard deviation of all training pixels less the mean image, roughly, on the scale 0..255.
    """

    function: Callable[..., Splits]
    folder: str
    pixel_std: float

    def load(self, data_dir: str, one_hot: bool, validation_size: int, seed: int, scale: float) -> Splits:
        """What the function gives. Raises DataError where it has ignored one_hot or validation_size."""
        splits = self.function(data_dir, one_hot=one_hot, validation_size=validation_size, seed=seed, scale=scale)
        labels, held_out = splits.train.labels.shape, splits.validation.num_examples
        if (len(labels) == 2) != one_hot:
            raise DataError(f"{splits.name}: its function gives labels of shape {labels} where {one_hot=}")
        if held_out != validation_size:
            raise DataError(f"{splits.name}: its function gives {held_out} validation images where {validation_size=}")
        return splits


DATASETS = {
    "cifar10": Source(get_cifar10, "./cifar10/cifar-10-batches-py", 63.4),
    "mnist": Source(get_mnist, "./mnist", PIXEL_STD),
}
