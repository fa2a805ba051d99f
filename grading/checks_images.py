"""What a script's images and numbers say: whether it prepares and labels images right, and reports on all of them.

Nothing is said of what was not seen (`grading.worker.images`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from grading.datasets import TRAIN_IMAGES
from grading.replies import Reply
from grading.worker.images import MIXED, MOVED, NEARLY, UNKNOWN, of_tests

LAYOUTS = {0: "channels first", 1: "channels last"}
OTHER_SCALE, OTHER_MEAN = 1.5, 0.5  # times as large; standard deviations apart
NEEDED = 10  # known labels, to say anything of them


@dataclass(frozen=True)
class Pass:
    """A forward pass (`worker.images.Images`)."""

    updates: float
    trained: float
    images: float
    tests: float
    layout: float
    mean: float
    deviation: float
    first: float
    right: float


class Seen:
    """What was seen of a run; empty where nothing was."""

    def __init__(self, reply: Reply):
        rows = reply.arrays.get("passes", np.zeros((0, 9)))
        if rows.shape[1:] != (9,):
            raise ValueError("passes that no training script leaves")
        self.passes = [Pass(*map(float, row)) for row in rows if np.isfinite(row).all()]  # those of images
        self.training = [one for one in self.passes if one.trained]
        self.testing = [one for one in self.passes if not one.trained and of_tests(one.tests, one.images)]
        self.labels = reply.arrays.get("labels", np.zeros(0, int))
        printed = reply.arrays.get("printed", np.zeros((0, 2))).reshape(-1, 2)
        self.printed = printed[np.isfinite(printed).all(axis=1)]
        kept = reply.arrays.get("kept", np.zeros(0)).ravel()
        self.kept = np.sort(kept[np.isfinite(kept)])

    @property
    def disorder(self) -> str:
        """What is said of images in which a reshape has put pixels in the place of others; '' where there are none."""
        found = {one.layout for one in self.passes}
        if MIXED in found:
            return ("Each image that the network is given has pixels of several images: x.reshape(len(x), -1) keeps "
                    "them apart, where reshape(3072, -1) or a transpose before it does not.")
        return ("The pixels of the images are not in their places: reshape(-1, 32, 32, 3) does not move the channels "
                "to the end, as transpose(0, 2, 3, 1) does." if MOVED in found else "")

    @property
    def layout(self) -> float:
        """That of the images that it trains on."""
        found = {one.layout for one in self.training}
        return found.pop() if len(found) == 1 else UNKNOWN

    @property
    def unlike(self) -> str:
        """In what the test images differ from the training images; '' for nothing."""
        if not self.training or not self.testing:
            return ""
        layouts = [{one.layout for one in passes} for passes in (self.training, self.testing)]
        if all(len(found) == 1 and found < set(LAYOUTS) for found in layouts) and layouts[0] != layouts[1]:
            trained, tested = (LAYOUTS[int(found.pop())] for found in layouts)
            return (f"The network is trained on images with their {trained}, and evaluated on images with their "
                    f"{tested}: prepare both alike.")
        (mean, deviation), (other_mean, other_deviation) = (
            [float(np.median([getattr(one, name) for one in passes])) for name in ("mean", "deviation")]
            for passes in (self.training, self.testing))
        small, large = sorted((deviation, other_deviation))
        if large > OTHER_SCALE * small or abs(mean - other_mean) > OTHER_MEAN * large:
            return (f"The network is trained on images of mean {mean:.3g} and standard deviation {deviation:.3g}, and "
                    f"evaluated on images of mean {other_mean:.3g} and standard deviation {other_deviation:.3g}: scale "
                    "both alike.")
        return ""

    def mislabelled(self, classes: np.ndarray) -> bool:
        """Whether the classes that the loss took for a first batch are those of other images."""
        known = self.labels != UNKNOWN
        return bool(len(classes) == len(self.labels) and known.sum() >= NEEDED
                    and (classes == self.labels)[known].mean() < 0.5)

    def sweeps(self, number: int) -> list[list[Pass]]:
        """Evaluations that go through the test images in their order."""
        found: list[list[Pass]] = []
        images = 0.0  # of the last of these
        for one in self.testing:
            if one.first == 0:
                found.append([])
                images = 0
            if found and one.first == images:
                found[-1].append(one)
                images += one.images
        return [passes for passes in found if len(passes) > 1 and sum(one.images for one in passes) >= NEARLY * number]

    def shows(self, value: float) -> bool:
        """Whether a fraction is among the numbers, also in percent, or as what is left of 1."""
        return any(self.keeps(form) or self.prints(form, places) for form, places in (
            (value, 2), (100 * value, 1), (1 - value, 2), (100 - 100 * value, 1)))

    def keeps(self, value: float) -> bool:
        at = np.searchsorted(self.kept, value)
        near = self.kept[max(at - 1, 0):at + 1]
        return bool((np.abs(near - value) <= 1e-5 * max(abs(value), 1e-3)).any())

    def prints(self, value: float, places: int) -> bool:
        """Whether it is printed with at least so many places."""
        far = np.abs(self.printed[:, 0] - value) > 0.505 * 10.0 ** -self.printed[:, 1]
        return bool((~far & (self.printed[:, 1] >= places)).any())

    def part_reported(self, number: int) -> str:
        """Whether the accuracy that is reported is not that of all test images; '' where it is not seen so.

        But of the last batch of them, or divided by another number.
        """
        sweeps = [passes for passes in self.sweeps(number) if not self.ambiguous(passes)]
        if not sweeps or any(self.whole_reported(passes) for passes in sweeps):
            return ""
        if all(self.shows(right_of(passes) / TRAIN_IMAGES) for passes in sweeps):
            return ("The accuracy that is reported is divided by the number of training images: divide by that of the "
                    "test images.")
        if len(sweeps) > 1 and all(self.keeps(sum_of(passes) / sum(one.images for one in passes)) for passes in sweeps):
            return ("The accuracy that is reported is a sum of accuracies of batches, divided by the number of images: "
                    "weigh each by the images of its batch.")
        last = [passes[-1] for passes in sweeps]
        alone = {one.right / one.images for one in last}
        if any(self.counted(passes) for passes in sweeps) or alone <= {0, 1} or not all(map(self.shows, alone)):
            return ""  # 0 and 1 are among all numbers
        return (f"The accuracy that is reported is that of the last {last[-1].images:.0f} test images alone: it must "
                f"come from all {number}.")

    def ambiguous(self, passes: Sequence[Pass]) -> bool:
        """Whether their accuracy may be among the numbers for another reason.

        A single pass has it too, or it is a whole number of percent, such as 10, which is also the number of classes.
        """
        value = of_all(passes)
        single = {round(one.right / one.images, 6) for one in self.testing if one.first != UNKNOWN}
        return round(value, 6) in single or round(100 * value, 6).is_integer()

    def whole_reported(self, passes: Sequence[Pass]) -> bool:
        """Whether the accuracy over all of these passes is seen, however it is averaged."""
        return any(self.shows(of_all(some)) or self.shows(sum_of(some) / len(some)) for some in complete(passes))

    def counted(self, passes: Sequence[Pass]) -> bool:
        """Whether the sum is seen that such an accuracy is made from."""
        return any(self.keeps(right_of(some)) or self.keeps(sum_of(some)) for some in complete(passes))


def complete(passes: Sequence[Pass]) -> list[Sequence[Pass]]:
    """These, and all but a last one that is shorter, which may be left out."""
    return [passes, *([passes[:-1]] if passes[-1].images < passes[0].images else [])]


def right_of(passes: Sequence[Pass]) -> float:
    """Right predictions in all these passes."""
    return sum(one.right for one in passes)


def sum_of(passes: Sequence[Pass]) -> float:
    """Sum of the accuracies of these passes."""
    return sum(one.right / one.images for one in passes)


def of_all(passes: Sequence[Pass]) -> float:
    """Accuracy over the images of all these passes."""
    return right_of(passes) / sum(one.images for one in passes)
