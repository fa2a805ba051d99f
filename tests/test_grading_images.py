"""What a script shows its network: images known again, layouts, scales, labels, and the accuracy that it reports."""

import sys
import types

import numpy as np
import pytest
from test_grading_scripts import PREPARED

from grading import datasets
from grading.checks_images import Seen
from grading.inputs import Inputs
from grading.replies import Reply
from grading.worker import images, marks

pytestmark = [pytest.mark.grading]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Five batch files of 300 images, and 1000 test images."""
    parts = [datasets.standin(Inputs(), number, name, code) for name, number, code in
             zip(("train", "some of test"), (1500, 1000), marks.codes(), strict=True)]
    return datasets.write_folder(tmp_path_factory.mktemp("data") / "marked", *parts)


@pytest.fixture(scope="module")
def test_images(folder):
    return datasets.standin(Inputs(), 1000, "some of test", marks.codes()[1])


TURNED = {"flipped", "upside down", "shifted, zeros", "shifted, zeros before the mean", "shifted, reflected",
          "rows and columns exchanged"}


@pytest.mark.parametrize("name", PREPARED)
def test_images_are_known_again_in_whatever_scale_and_layout(folder, test_images, name):
    pixels, _ = test_images
    flat = PREPARED[name](pixels.astype(float).reshape(-1, 3, 32, 32)).reshape(1000, -1)
    last = "channels last" in name or name == "rows and columns exchanged"
    assert marks.layout(flat) == int(last)
    known = images.Known(str(folder), images.TEST)
    order = np.random.default_rng(0).permutation(1000)[:200]
    for which in (np.arange(100, 1000), order):
        found = known.find(flat[which], last)
        if name in TURNED:
            assert (found == images.UNKNOWN).mean() > 0.95  # and no other image is taken for it
        else:
            assert (found == which).all()
    assert (known.find(flat[np.resize(order, 600)], last) == images.UNKNOWN).all()  # would take long


MIXES = [lambda x: x.reshape(3072, -1).T, lambda x: x.T.reshape(len(x), -1), lambda x: x.transpose(1, 0, 2, 3).reshape(len(x), -1)]
MOVES = [lambda x: x.reshape(-1, 32, 32, 3).transpose(0, 3, 1, 2)]


@pytest.mark.parametrize("number", [38, 64, 200])
@pytest.mark.parametrize("change, said", [*((mix, "pixels of several images") for mix in MIXES),
                                          *((move, "not in their places") for move in MOVES),
                                          (lambda x: x, ""), (lambda x: x.transpose(0, 2, 3, 1), ""),
                                          (lambda x: np.random.default_rng(0).normal(size=x.shape), "")])
def test_pixels_that_a_reshape_has_moved_are_told(folder, test_images, change, said, number):
    x = change(test_images[0][:number].astype(float).reshape(-1, 3, 32, 32))
    if not said:
        x[0] = 0  # an image that cannot be read
    split, _ = marks.read(x)
    event = (number, int((split == marks.TRAIN).sum()), int((split == marks.TEST).sum()), 0)
    found = seen(*noted(folder, (event, x, np.zeros((number, 10)), True)).passes).disorder
    assert said in found and bool(said) == bool(found)


def noted(folder, *passes):
    """Notes of passes (event, images, output, whether an update was made from it)."""
    found = images.Images(str(folder))
    for updates, (event, x, output, trained) in enumerate(passes):
        found.add(event, updates, x, output, labels=True)
        if trained:
            found.trained(event)
    return found


def test_passes_are_noted(folder, test_images):
    x, labels = test_images
    train, of_train = datasets.standin(Inputs(), 1500, "train", marks.codes()[0])
    output = np.eye(10)[(labels[500:600] + (np.arange(100) < 30)) % 10]
    last = x[500:600].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1) / 255
    event, other = (40, 40, 0, 0, 1, 1, 5), (100, 0, 100, 100, 0, 0, 6)
    found = noted(folder, (event, train[[7, *range(80, 119)]], np.zeros((40, 10)), True), (other, last, output, False))
    (first, second) = found.passes
    assert first[:5] == [0, 1, 40, 0, 0] and first[7:] == [-1, -1]
    assert second[:5] == [1, 0, 100, 100, 1] and second[7:] == [500, 70] and 0 < second[5] < 1
    assert (found.labels[event] == of_train[[7, *range(80, 119)]]).all() and other not in found.labels
    noise = np.random.default_rng(0).normal(size=(4, 3072))
    assert noted(folder, ((4, 4, 0, 0, 1, 1, 5), noise, np.zeros((4, 10)), True)).passes[0][4] == images.UNKNOWN


# ---------------------------------------------------------------- what the checks make of it

TRAINED, TESTED = (0, 1, 40, 0, 0, 0.1, 64.0, -1, -1), (1, 0, 5000, 5000, 0, 0.2, 60.0, 0, 500)


def seen(*passes, **arrays):
    return Seen(Reply({"passes": np.array(passes, float).reshape(-1, 9), **{k: np.array(v) for k, v in arrays.items()}}))


def but(row, **changes):
    names = ("updates", "trained", "images", "tests", "layout", "mean", "deviation", "first", "right")
    return tuple(changes.get(name, value) for name, value in zip(names, row, strict=True))


@pytest.mark.parametrize("tested, said", [
    ({}, ""), ({"deviation": 0.24, "mean": 0}, "of mean 0.1 and standard deviation 64, and evaluated on images of mean 0 and "
                                               "standard deviation 0.24"),
    ({"mean": 90}, "evaluated on images of mean 90"), ({"layout": 1}, "channels first, and evaluated on images with their channels last"),
    ({"layout": -1}, ""), ({"deviation": 70, "mean": 20}, "")])
def test_train_and_test_images_are_prepared_alike(tested, said):
    found = seen(TRAINED, but(TESTED, **tested)).unlike
    assert said in found and bool(said) == bool(found)
    assert seen(TRAINED).unlike == seen(TESTED).unlike == seen().unlike == ""
    assert seen(TRAINED, but(TRAINED, layout=1)).layout == -1 and seen(but(TRAINED, layout=1), TESTED).layout == 1


def test_labels_of_other_images_are_told():
    labels, other = np.arange(40) % 10, (np.arange(40) + 1) % 10
    assert seen(labels=labels).mislabelled(other) and not seen(labels=labels).mislabelled(labels)
    few = np.where(np.arange(40) < 31, -1, labels)
    assert not seen(labels=few).mislabelled(other) and not seen().mislabelled(labels)


FIRST, SECOND = but(TESTED), but(TESTED, first=5000, right=750)  # 0.1 and 0.15, together 0.125
SWEEP = (TRAINED, FIRST, SECOND)


@pytest.mark.parametrize("numbers, reported", [
    ({"kept": [0.15]}, True), ({"printed": [(0.150, 3)]}, True), ({"printed": [(15.0, 1)]}, True),
    ({"printed": [(15.0, 1), (0, 0), (13, 0)]}, True), ({"kept": [0.85]}, True),
    ({"kept": [0.125, 0.15]}, False), ({"kept": [0.15], "printed": [(12.5, 1)]}, False), ({"kept": [0.15, 1250]}, False),
    ({"kept": [0.15, 0.25]}, False), ({"kept": [0.15, 0.875]}, False), ({"kept": [0.15, 0.1]}, True), ({"kept": [0.3]}, False),
    ({}, False), ({"printed": [(0.2, 1)]}, False), ({"kept": [np.nan, 0.15, np.inf]}, True)])
def test_an_accuracy_of_the_last_batch_alone_is_told(numbers, reported):
    """Not where one over all images is seen too, in whatever form, and not where neither is."""
    said = seen(*SWEEP, **numbers).part_reported(10_000)
    assert ("of the last 5000 test images alone: it must come from all 10000" in said) == reported == bool(said)


def test_an_accuracy_divided_by_the_training_images_is_told():
    """Also where the number of right predictions is seen, but not where the accuracy itself is."""
    for kept in ([0.025], [0.025, 1250], [2.5, 0.15]):  # 1250 of 50,000
        assert "number of training images" in seen(*SWEEP, kept=kept).part_reported(10_000)
    assert seen(*SWEEP, kept=[0.025, 0.125]).part_reported(10_000) == ""


def test_a_last_batch_of_none_or_all_right_says_nothing():
    """0 and 1 are among the numbers of every script."""
    for last, kept in ((0, 0.0), (5000, 1.0)):
        assert seen(TRAINED, but(TESTED, right=505), but(SECOND, right=last), kept=[kept]).part_reported(10_000) == ""


def test_a_sum_of_accuracies_divided_by_the_images_is_told():
    """Of all evaluations, since so small a number may be another."""
    other = but(SECOND, right=610)
    kept = [(0.1 + 0.15) / 10_000, (0.1 + 0.122) / 10_000]
    assert "a sum of accuracies of batches" in seen(*SWEEP, FIRST, other, kept=kept).part_reported(10_000)
    assert seen(*SWEEP, FIRST, other, kept=kept[:1]).part_reported(10_000) == ""
    assert seen(*SWEEP, kept=kept).part_reported(10_000) == ""
    assert seen(*SWEEP, FIRST, other, kept=[*kept, 0.125]).part_reported(10_000) == ""


def test_an_ambiguous_accuracy_says_nothing():
    """Such as that of a single batch of the same run, or 10 %; another evaluation tells. A shorter last batch may be left out."""
    seven, three = but(TESTED, right=650), but(TESTED, first=5000, right=350)  # together 0.1
    assert seen(TRAINED, seven, three, kept=[0.07]).part_reported(10_000) == ""
    assert "alone" in seen(*SWEEP, seven, three, kept=[0.15, 0.07, 10]).part_reported(10_000)
    other = but(SECOND, right=625)  # with the first 0.1125; alone 0.125, which the first evaluation is together
    assert "alone" in seen(*SWEEP, FIRST, other, kept=[0.15, 0.125]).part_reported(10_000)
    assert seen(*SWEEP, FIRST, other, kept=[0.15, 0.125, 0.1125]).part_reported(10_000) == ""
    shorter = but(SECOND, images=4995, tests=4950)
    assert seen(TRAINED, FIRST, shorter, kept=[0.1, 750 / 4995]).part_reported(10_000) == ""
    assert "alone" in seen(TRAINED, FIRST, shorter, kept=[750 / 4995]).part_reported(10_000)


@pytest.mark.parametrize("passes", [
    (but(TESTED, images=10_000, tests=10_000, right=1500),), (FIRST, but(SECOND, first=-1)), (FIRST, but(SECOND, tests=4900)),
    (SECOND, FIRST), (FIRST,), (FIRST, but(SECOND, images=2000, tests=2000))])
def test_nothing_is_said_of_evaluations_that_were_not_seen_whole(passes):
    assert seen(*passes, kept=[0.15]).part_reported(10_000) == ""


def test_numbers_are_taken_from_what_is_printed_returned_and_kept():
    module = types.ModuleType("__main__")
    text = """
import numpy as np
import sys
class Meter:
    def __init__(self):
        self.value = 0.625
def evaluate():
    rates = [0.375, (0.25, {"last": np.float32(0.75)})]
    meter = Meter()
    return 0.0625
print("step 3: %.2f %d%%, loss 1.5e-3" % (0.5, 7), file=sys.stderr)
evaluate()
many = list(range(5))
"""
    numbers = images.Numbers()
    before = sys.gettrace(), sys.stdout, sys.stderr
    with numbers.taken("script.py"):
        exec(compile(text, "script.py", "exec"), module.__dict__)
    assert (sys.gettrace(), sys.stdout, sys.stderr) == before
    assert {(0.5, 2), (7.0, 0), (0.0015, 15), (3.0, 0)} <= numbers.printed
    assert {0.375, 0.25, 0.75, 0.625, 0.0625, 4.0} <= numbers.kept
