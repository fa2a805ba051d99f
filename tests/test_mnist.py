"""MNIST: IDX files, raw or compressed, sound or damaged."""

import gzip
import os
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from cifar10_utils import DataError
from imagefiles import mnist as mnist_utils
from imagefiles.checksums import md5_of
from imagefiles.mnist import FILES, get_mnist

pytestmark = [pytest.mark.data, pytest.mark.systems]
TRAIN_IMAGES, TRAIN_LABELS, TEST_IMAGES, TEST_LABELS = FILES


def idx(array: np.ndarray) -> bytes:
    """`array` in LeCun's IDX format: magic number, sizes as big-endian integers, bytes."""
    return struct.pack(f">I{array.ndim}I", 0x800 + array.ndim, *array.shape) + array.tobytes()


def arrays() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    train, test = rng.integers(0, 256, (30, 28, 28), np.uint8), rng.integers(0, 256, (20, 28, 28), np.uint8)
    labels = [(np.arange(n) % 10).astype(np.uint8) for n in (30, 20)]
    return dict(zip(FILES, (train, labels[0], test, labels[1]), strict=True))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, array in arrays().items():
        (tmp_path / name).write_bytes(idx(array))
    return tmp_path


@pytest.mark.parametrize("subfolder", [".", "raw", "MNIST/raw", "dataset/MNIST/raw"])
@pytest.mark.parametrize("compressed", [(), FILES, (TEST_LABELS,)])
def test_files_are_found(tmp_path, subfolder, compressed):
    place = tmp_path / subfolder
    place.mkdir(parents=True, exist_ok=True)
    for name, array in arrays().items():
        if name in compressed:
            (place / f"{name}.gz").write_bytes(gzip.compress(idx(array)))
        else:
            (place / name).write_bytes(idx(array))
    data = get_mnist(tmp_path, one_hot=False, download=False)
    np.testing.assert_array_equal(data.test.pixels[:, 0], arrays()[TEST_IMAGES])
    np.testing.assert_array_equal(data.train.labels, arrays()[TRAIN_LABELS])


def test_splits(folder):
    data = get_mnist(folder, validation_size=10)
    assert [data[split].num_examples for split in data] == [20, 10, 20]
    x, y = data.train.next_batch(7)
    assert x.shape == (7, 1, 28, 28) and x.dtype == np.float32 and y.shape == (7, 10)
    pixels = arrays()[TRAIN_IMAGES].astype(np.float64)
    mean = pixels[10:].mean(axis=0)  # of the training split alone
    expected = (pixels - mean) / (0.3081 * 255)
    np.testing.assert_allclose(data.validation.images[:, 0], expected[:10], atol=1e-3)
    np.testing.assert_allclose(data.train.images[:, 0], expected[10:], atol=1e-3)
    np.testing.assert_allclose(data.mean_image, mean[None], rtol=1e-5)
    np.testing.assert_allclose(get_mnist(folder, scale=0.1).test.images[:, 0],
                               (arrays()[TEST_IMAGES] - pixels.mean(axis=0)) / 10, rtol=1e-4, atol=1e-4)
    assert data.train.pixels.dtype == np.uint8
    assert (data.name, data.state, data.class_names) == ("MNIST", "unpublished", tuple("0123456789"))


def test_published_files_are_recognised(folder, monkeypatch):
    published = {name: (magic, mnist_utils.read_idx(folder / name, magic)[1]) for name, (magic, _) in FILES.items()}
    monkeypatch.setattr(mnist_utils, "FILES", published)
    assert get_mnist(folder).state == "published"
    (folder / TEST_LABELS).write_bytes(idx(np.zeros(20, np.uint8)))
    assert get_mnist(folder).state == "unpublished"


def changed(**arguments: np.ndarray) -> dict[str, bytes]:
    names = {"train_images": TRAIN_IMAGES, "train_labels": TRAIN_LABELS, "test_labels": TEST_LABELS}
    return {names[key]: idx(value) for key, value in arguments.items()}


WHOLE = idx(arrays()[TRAIN_IMAGES])
UNSOUND = {
    "empty": ({TRAIN_IMAGES: b""}, "train-images.* magic number 2051"),
    "header only": ({TRAIN_IMAGES: WHOLE[:16]}, "16 bytes where its header announces 23,536"),
    "half a header": ({TRAIN_IMAGES: WHOLE[:10]}, "magic number 2051"),
    "one byte short": ({TRAIN_IMAGES: WHOLE[:-1]}, "23,535 bytes where its header announces 23,536"),
    "one byte long": ({TRAIN_IMAGES: WHOLE + b"x"}, "23,537 bytes where its header announces 23,536"),
    "sizes that overflow": ({TRAIN_IMAGES: struct.pack(">4I", 2051, *[2**32 - 1] * 3)}, "16 bytes where"),
    "web page": ({TRAIN_IMAGES: b"<html>not found</html>"}, "magic number 2051"),
    "labels for images": ({TRAIN_IMAGES: idx(arrays()[TRAIN_LABELS])}, "magic number 2051"),
    "images for labels": ({TEST_LABELS: idx(arrays()[TEST_IMAGES])}, "magic number 2049"),
    "few labels": (changed(train_labels=np.zeros(29, np.uint8)), "30 train images, but 29 labels"),
    "test labels for train": (changed(train_labels=arrays()[TEST_LABELS]), "30 train images, but 20 labels"),
    "label 10": (changed(test_labels=np.full(20, 10, np.uint8)), "t10k labels up to 10, not 0..9"),
    "other size": (changed(train_images=np.zeros((30, 32, 32), np.uint8)), r"shape \(30, 32, 32\), not \(N, 28, 28\)"),
    "no images of any size": ({TRAIN_IMAGES: struct.pack(">4I", 2051, 0, *[2**32 - 1] * 2)}, r"shape \(0, 4294967295"),
    "no images": (changed(train_images=np.zeros((0, 28, 28), np.uint8)), r"shape \(0, 28, 28\)"),
    "gz cut off": ({f"{TRAIN_IMAGES}.gz": gzip.compress(WHOLE)[:-20], TRAIN_IMAGES: None}, r"\.gz cannot be read"),
    "gz corrupt": ({f"{TRAIN_IMAGES}.gz": b"\x1f\x8b\x08\x00" + bytes(99), TRAIN_IMAGES: None}, r"\.gz cannot be read"),
    "no gz": ({f"{TRAIN_IMAGES}.gz": WHOLE, TRAIN_IMAGES: None}, r"\.gz cannot be read"),
}


@pytest.mark.parametrize("case", UNSOUND)
def test_unsound_file(folder, case):
    files, message = UNSOUND[case]
    for name, content in files.items():
        (folder / name).unlink(missing_ok=True)
        if content is not None:
            (folder / name).write_bytes(content)
    with pytest.raises(DataError, match=message) as error:
        get_mnist(folder, download=False)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("size", [-1, 30])
def test_validation_size_out_of_range(folder, size):
    with pytest.raises(DataError, match=f"between 0 and 29.*got {size}"):
        get_mnist(folder, validation_size=size)


def test_missing_file_without_download(folder):
    (folder / TEST_LABELS).unlink()
    with pytest.raises(DataError) as error:
        get_mnist(folder, download=False)
    what, put, name = str(error.value).splitlines()
    assert f"MNIST is not in {folder}" in what and TEST_LABELS in put and "--data_dir" in name


@pytest.mark.parametrize(("names", "found"), [
    (["mnist_train.csv", "mnist_test.csv"], "which holds 'mnist_test.csv', 'mnist_train.csv'"),
    (["mnist.npz"], "which holds 'mnist.npz'"),
    ([name.upper().replace("-IDX", ".IDX") for name in FILES], "which holds 'T10K-IMAGES.IDX3-UBYTE', .* and 1 more"),
    ([f"emnist-digits-{name}.gz" for name in FILES], "which holds 'emnist-digits-t10k-images-idx3-ubyte.gz', .* and 1 more"),
])
def test_what_the_folder_holds_instead_is_named_and_the_advice_works(tmp_path, names, found):
    for name in names:
        (tmp_path / name).touch()
    with pytest.raises(DataError, match=f"^MNIST is not in {tmp_path}, {found} ") as error:
        get_mnist(tmp_path, download=False)
    _, put, _ = str(error.value).splitlines()
    for name in put.removeprefix("put ").partition(" there")[0].split(", "):
        (tmp_path / f"{name}.gz").write_bytes(gzip.compress(idx(arrays()[name])))
    assert get_mnist(tmp_path, download=False).test.num_examples == 20


def test_a_file_for_a_folder(folder):
    with pytest.raises(DataError, match=f"{TEST_LABELS}, which is a file .*\n.*\nor name their folder with --data_dir"):
        get_mnist(folder / TEST_LABELS)


def test_another_data_set_of_the_same_names_is_refused(folder):
    """Fashion-MNIST and KMNIST have 6,000 training images of each class, and MNIST from 5,421 to 6,742."""
    (folder / TRAIN_IMAGES).write_bytes(idx(np.zeros((60_000, 28, 28), np.uint8)))
    (folder / TRAIN_LABELS).write_bytes(idx((np.arange(60_000) % 10).astype(np.uint8)))
    with pytest.raises(DataError, match="Fashion-MNIST or KMNIST, whose files have the names of MNIST's"):
        get_mnist(folder)
    (folder / TRAIN_LABELS).write_bytes(idx((np.arange(60_000) % 9).astype(np.uint8)))
    assert get_mnist(folder).train.num_examples == 60_000


@pytest.fixture
def published_mnist(monkeypatch):
    """Replaces torchvision's class: `published_mnist(effect)`."""

    def install(effect):
        import torchvision

        monkeypatch.setattr(torchvision.datasets, "MNIST", effect)

    return install


def test_torchvision_fetches(tmp_path, published_mnist):
    def fetch(root, download):
        assert download
        place = Path(root) / "MNIST" / "raw"
        place.mkdir(parents=True)
        for name, array in arrays().items():
            (place / name).write_bytes(idx(array))

    published_mnist(fetch)
    assert get_mnist(tmp_path / "mnist").test.num_examples == 20
    assert get_mnist(tmp_path / "mnist", download=False).test.num_examples == 20


@pytest.mark.parametrize("place", [".", "raw", "MNIST/raw", "dataset/MNIST/raw"])
@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_a_damaged_file_that_is_removed_is_downloaded(tmp_path, place, suffix, monkeypatch):
    """As the message says, by torchvision itself."""
    import torchvision

    (tmp_path / "mirror").mkdir()
    resources = []
    for name, array in arrays().items():
        (tmp_path / "mirror" / f"{name}.gz").write_bytes(packed := gzip.compress(idx(array)))
        resources.append((f"{name}.gz", md5_of(packed)))
        path = tmp_path / "mnist" / place / f"{name}{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(packed if suffix else idx(array))
    monkeypatch.setattr(torchvision.datasets.MNIST, "resources", resources)
    monkeypatch.setattr(torchvision.datasets.MNIST, "mirrors", [f"file://{tmp_path}/mirror/"])
    monkeypatch.setattr(torchvision.datasets.utils, "_urlretrieve", lambda url, path: shutil.copy(url[len("file://"):], path))
    damaged = tmp_path / "mnist" / place / f"{TEST_LABELS}{suffix}"
    damaged.write_bytes(b"<html>")
    with pytest.raises(DataError, match=r"; fetch it again: remove it, and the next run downloads it$"):
        get_mnist(tmp_path / "mnist")
    damaged.unlink()
    assert get_mnist(tmp_path / "mnist").test.num_examples == 20


def test_a_proxy_that_fails_is_named_without_its_password(tmp_path, monkeypatch):
    monkeypatch.setenv("https_proxy", "http://me:s3cret@127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    with pytest.raises(DataError, match=r"\(through the proxy 127.0.0.1:9 of https_proxy\)") as error:
        get_mnist(tmp_path / "mnist")
    assert "s3cret" not in str(error.value)


def test_a_failed_download_leaves_no_empty_folder_behind(tmp_path, published_mnist):
    def fail(root, download):
        (Path(root) / "MNIST" / "raw").mkdir(parents=True)
        raise RuntimeError("Error downloading")

    published_mnist(fail)
    (tmp_path / "there").mkdir()
    for name in ("there", "new/mnist"):
        with pytest.raises(DataError, match="Error downloading"):
            get_mnist(tmp_path / name)
    assert list(tmp_path.rglob("*")) == [tmp_path / "there"]


@pytest.mark.parametrize("error", [RuntimeError("Error downloading x:\nlong story"), OSError(28, "No space left")])
def test_failed_download_says_why(tmp_path, published_mnist, error):
    def fail(root, download):
        raise error

    published_mnist(fail)
    with pytest.raises(DataError, match=r"Error downloading x: long story\)|No space left") as raised:
        get_mnist(tmp_path)
    assert len(str(raised.value).splitlines()) == 3


def test_reading_needs_no_torch(folder):
    code = f"import sys; from imagefiles import mnist; mnist.get_mnist({str(folder)!r}); print('torch' in sys.modules)"
    root = Path(mnist_utils.__file__).parent.parent
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.real_data
@pytest.mark.skipif(not os.environ.get("MNIST_DIR"), reason="MNIST_DIR is not set")
def test_real_mnist():
    data = get_mnist(os.environ["MNIST_DIR"], one_hot=False, download=False)
    assert (data.train.num_examples, data.test.num_examples, data.state) == (60_000, 10_000, "published")
    assert data.train.labels[:5].tolist() == [5, 0, 4, 1, 9]
    assert abs(data.train.images.mean()) < 1e-3 and 0.8 < data.train.images.std() < 0.9  # 1 but for the mean image
