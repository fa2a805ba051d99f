"""CIFAR-10: the DataSet and loading."""

import json
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import cifar10_utils
from cifar10_utils import DataError, DataSet, dense_to_one_hot, get_cifar10
from imagefiles import cifar10_files
from imagefiles.cifar10_files import BATCH_FILES
from imagefiles.cifar10_standin import write_pickle
from tests.cifar10_folders import batch, write_batches

pytestmark = pytest.mark.data


def numbered(n: int, seed: int = 0) -> DataSet:
    """A data set in which image i is filled with i and labelled i."""
    images = np.broadcast_to(np.arange(n, dtype=np.uint8)[:, None, None, None], (n, 3, 2, 2))
    return DataSet(images, np.arange(n), seed=seed)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_batches(tmp_path)


# --- DataSet


@given(st.integers(1, 40), st.lists(st.floats(0, 1), min_size=1, max_size=30), st.integers(0, 9))
def test_each_epoch_serves_each_sample_once(n, fractions, seed):
    data = numbered(n, seed)
    served: list[int] = []
    for fraction in fractions:
        size = 1 + round(fraction * (n - 1))
        x, y = data.next_batch(size)
        assert x.shape == (size, 3, 2, 2) and x.dtype == np.float32 and y.shape == (size,)
        assert (x[:, 0, 0, 0] == y).all()
        served += y.tolist()
        assert data.epochs_completed == len(served) // n
    for start in range(0, len(served), n):
        epoch = served[start : start + n]
        assert len(set(epoch)) == len(epoch)


def test_default_run_sees_every_sample_as_often():
    data = numbered(250)
    seen = np.concatenate([data.next_batch(200)[1] for _ in range(1400)])
    assert len(seen) == 280_000 and data.epochs_completed == 1120
    assert (np.bincount(seen) == 1120).all()


@given(st.integers(1, 30), st.data())
def test_state_continues_bit_for_bit(n, data):
    sizes = st.integers(1, n)
    original, resumed = numbered(n, seed=1), numbered(n, seed=2)
    for size in data.draw(st.lists(sizes, max_size=12)):
        original.next_batch(size)
    resumed.load_state(json.loads(json.dumps(original.state())))
    assert resumed.epochs_completed == original.epochs_completed
    for size in data.draw(st.lists(sizes, min_size=1, max_size=12)):
        for expected, received in zip(original.next_batch(size), resumed.next_batch(size), strict=True):
            np.testing.assert_array_equal(expected, received)
    assert resumed.state() == original.state()


@pytest.mark.parametrize(
    "change",
    [
        {"num_examples": 8},
        {"position": 7},
        {"position": -1},
        {"position": "one"},
        {"position": [1]},
        {"epochs_completed": None},
        {"bit_generator": {"bit_generator": "MT19937"}},
        {"bit_generator": {"bit_generator": "PCG64", "state": {}}},
        {"bit_generator": 3},
    ],
)
def test_foreign_state_is_refused_and_changes_nothing(change):
    data = numbered(7)
    data.next_batch(3)
    before = data.state()
    with pytest.raises(ValueError, match="state"):
        data.load_state({**before, **change})
    with pytest.raises(ValueError, match="state"):
        data.load_state([1, 2])
    assert data.state() == before


def test_order_depends_on_seed_and_epoch():
    first, second = numbered(50, seed=3), numbered(50, seed=3)
    orders = [first.next_batch(50)[1] for _ in range(2)]
    assert (orders[0] == second.next_batch(50)[1]).all()
    assert (orders[0] != orders[1]).any() and (orders[0] != np.arange(50)).any()
    assert (orders[0] != numbered(50, seed=4).next_batch(50)[1]).any()


def test_batches_are_the_callers_to_keep():
    data = numbered(10)
    x, y = data.next_batch(10)
    x[:], y[:] = -1, -1
    assert (data.pixels[:, 0, 0, 0] == np.arange(10)).all() and (data.labels == np.arange(10)).all()


def test_a_batch_fills_the_arrays_it_is_given_and_is_the_same():
    new, filled = numbered(10, seed=3), numbered(10, seed=3)
    images, labels = np.full((4, *new.pixels.shape[1:]), np.nan, np.float32), np.full(4, -1)
    for _ in range(5):  # past the end of two epochs
        x, y = filled.next_batch(4, images, labels)
        assert x is images and y is labels
        for expected, received in zip(new.next_batch(4), (x, y), strict=True):
            np.testing.assert_array_equal(expected, received)
    with pytest.raises(ValueError, match=r"must be of shape \(4,"):
        filled.next_batch(4, images[:1])  # which NumPy would fill with the last image


@given(st.integers(1, 20), st.integers(1, 25))
def test_batches_in_the_same_memory_are_the_same(n, size):
    data = numbered(n)
    served = [(x.copy(), x.__array_interface__["data"][0]) for x, _ in data.batches(size, reuse=True)]
    np.testing.assert_array_equal(np.concatenate([x for x, _ in served]), data.images)
    assert len({address for _, address in served}) == 1


@pytest.mark.parametrize("size", [0, -1, 8])
def test_batch_size_out_of_range(size):
    with pytest.raises(ValueError, match=f"between 1 and the split's 7 examples, got {size}"):
        numbered(7).next_batch(size)
    if size < 1:
        with pytest.raises(ValueError, match="at least 1"):
            next(numbered(7).batches(size))


@given(st.integers(0, 20), st.integers(1, 25))
def test_batches_serve_the_split_once_in_order(n, size):
    data = numbered(n)
    served = list(data.batches(size))
    assert all(len(x) == len(y) == size for x, y in served[:-1])
    assert [int(label) for _, y in served for label in y] == list(range(n))
    assert all(x.dtype == np.float32 and (x[:, 0, 0, 0] == y).all() for x, y in served)


def test_images_are_floats_less_the_mean_times_the_scale():
    rng = np.random.default_rng(0)
    pixels, mean = rng.integers(0, 256, (5, 1, 28, 28), np.uint8), rng.random((1, 28, 28)) * 255
    data = DataSet(pixels, np.zeros(5, int), mean, scale=1 / 255)
    assert data.images.dtype == np.float32 and data.num_examples == 5
    np.testing.assert_allclose(data.images, (pixels - mean) / 255, atol=1e-6)
    np.testing.assert_array_equal(data.images[2:4], list(DataSet(pixels, np.zeros(5), mean, scale=1 / 255).batches(2))[1][0])
    floats = rng.standard_normal((5, 3, 4, 4))
    np.testing.assert_array_equal(DataSet(floats, np.zeros(5)).images, floats.astype(np.float32))


def test_as_many_labels_as_images():
    with pytest.raises(ValueError, match="5 images, but 4 labels"):
        DataSet(np.zeros((5, 3, 2, 2), np.uint8), np.zeros(4))


def test_dense_to_one_hot():
    np.testing.assert_array_equal(dense_to_one_hot(np.array([2, 0]), 3), [[0, 0, 1], [1, 0, 0]])
    assert dense_to_one_hot(np.array([], int)).shape == (0, 10)
    for wrong in ([-1, 2], [10], [0.5], [[1, 2]]):
        with pytest.raises(ValueError, match="labels must"):
            dense_to_one_hot(np.array(wrong))


# --- loading


def test_splits(standin):
    data = get_cifar10(standin, validation_size=300)
    assert [data[split].num_examples for split in data] == [1700, 300, 400]
    assert data["train"] is data.train and data["validation"] is data.validation and data["test"] is data.test
    with pytest.raises(KeyError, match="the splits are train, validation, test"):
        data["valid"]
    x, y = data.train.next_batch(20)
    assert x.shape == (20, 3, 32, 32) and x.dtype == np.float32
    assert y.shape == (20, 10) and (y.sum(axis=1) == 1).all()
    assert data.train.pixels.dtype == np.uint8
    assert (data.state, data.name, data.class_names[0]) == ("synthetic", "synthetic stand-in", "disc")


def test_values_agree_with_pythons_own_pickle(standin):
    raw = [pickle.loads((standin / name).read_bytes(), encoding="bytes") for name in BATCH_FILES]
    pixels = np.concatenate([part[b"data"] for part in raw]).reshape(-1, 3, 32, 32)
    labels = np.concatenate([part[b"labels"] for part in raw])
    data = get_cifar10(standin, one_hot=False, validation_size=300)
    mean = pixels[300:2000].mean(axis=0, dtype=np.float64)
    np.testing.assert_allclose(data.mean_image, mean, rtol=1e-6)
    assert data.mean_image.dtype == np.float32
    for split, rows in (("validation", slice(0, 300)), ("train", slice(300, 2000)), ("test", slice(2000, None))):
        np.testing.assert_array_equal(data[split].pixels, pixels[rows])
        np.testing.assert_array_equal(data[split].labels, labels[rows])
        np.testing.assert_allclose(data[split].images, pixels[rows] - mean, atol=1e-4)


def test_state_of_the_files(folder, monkeypatch):
    assert get_cifar10(folder).state == "unpublished"
    published = {name: cifar10_files.read_batch(folder / name).md5 for name in BATCH_FILES}
    monkeypatch.setattr(cifar10_files, "PUBLISHED_MD5", published)
    data = get_cifar10(folder)
    assert (data.state, data.name, data.class_names) == ("published", "CIFAR-10", cifar10_files.CLASS_NAMES)
    (folder / "data_batch_2").write_bytes(write_pickle(batch(1, n=5)))
    assert get_cifar10(folder).state == "unpublished"


def test_folder_above_is_found(folder):
    assert get_cifar10(folder.parent).train.num_examples == 20


@pytest.mark.parametrize("size", [-1, 20, 21])
def test_validation_size_out_of_range(folder, size):
    with pytest.raises(DataError, match=f"validation_size must be between 0 and 19.*got {size}"):
        get_cifar10(folder, validation_size=size)


def test_importing_stays_light():
    code = "import sys, cifar10_utils; print([m for m in ('torch', 'tqdm', 'tarfile', 'urllib.request') if m in sys.modules])"
    root = Path(cifar10_utils.__file__).parent
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# --- the real thing


@pytest.mark.real_data
def test_real_cifar10(cifar10_dir):
    data = get_cifar10(cifar10_dir, one_hot=False, validation_size=5000, download=False)
    assert [data[split].num_examples for split in data] == [45_000, 5_000, 10_000]
    assert data.class_names == cifar10_files.CLASS_NAMES
    assert data.state in ("published", "unpublished")
    counts = np.bincount(data.train.labels) + np.bincount(data.validation.labels)
    assert (counts == 5000).all() and (np.bincount(data.test.labels) == 1000).all()
    np.testing.assert_allclose(data.mean_image.mean(axis=(1, 2)), [125.3, 123.0, 113.9], atol=0.5)


@pytest.mark.real_data
@pytest.mark.skipif(sys.platform != "linux", reason="reads VmHWM")
def test_loading_is_lean(cifar10_dir):
    code = (
        "import cifar10_utils\n"
        "def peak(): return int(open('/proc/self/status').read().split('VmHWM:')[1].split()[0]) // 1024\n"
        f"before = peak(); data = cifar10_utils.get_cifar10({str(cifar10_dir)!r}); print(peak() - before)"
    )
    root = Path(cifar10_utils.__file__).parent
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert int(done.stdout) < 300  # MiB; the pixels alone are 176
