"""The synthetic stand-in: what it writes, and that networks learn from it about as they do from CIFAR-10."""

import hashlib
import pickle
from pathlib import Path

import numpy as np
import pytest

import cifar10_utils
from cifar10_utils import get_cifar10
from imagefiles import cifar10_standin
from imagefiles.cifar10_files import BATCH_FILES
from imagefiles.cifar10_standin import CLASS_NAMES, draw, make_standin
from mlp_numpy import MLP
from modules import CrossEntropyModule, LinearModule

pytestmark = pytest.mark.data


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_same_seed_same_files(tmp_path):
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        make_standin(tmp_path / name, train_size=252, test_size=31, seed=seed)
    first, same, other = (content(tmp_path / name) for name in "abc")
    assert first == same
    assert set(first) == {*BATCH_FILES, "batches.meta", "MD5SUMS"}
    assert [name for name in first if first[name] == other[name]] == ["batches.meta"]
    data = get_cifar10(tmp_path / "a", one_hot=False)
    assert (data.train.num_examples, data.test.num_examples) == (252, 31)
    assert np.bincount(data.test.labels).tolist() == [4] + [3] * 9
    assert (data.state, data.class_names) == ("synthetic", CLASS_NAMES)


def test_other_readers_read_it(standin):
    for name in BATCH_FILES:
        for encoding, data, title in (("latin1", "data", "batch_label"), ("bytes", b"data", b"batch_label")):
            batch = pickle.loads((standin / name).read_bytes(), encoding=encoding)
            assert batch[data].shape[1:] == (3072,) and batch[data].dtype == np.uint8
            assert batch[title][:9] in ("synthetic", b"synthetic")
    meta = pickle.loads((standin / "batches.meta").read_bytes(), encoding="latin1")
    assert tuple(meta["label_names"]) == CLASS_NAMES


def test_checksums_find_a_changed_file(tmp_path, capsys):
    make_standin(tmp_path / "a", train_size=20, test_size=10)
    for line in (tmp_path / "a" / "MD5SUMS").read_text().splitlines():
        md5, name = line.split("  ")
        assert hashlib.md5((tmp_path / "a" / name).read_bytes()).hexdigest() == md5
    assert cifar10_utils.main(["verify", str(tmp_path / "a")]) == 0
    verdict = capsys.readouterr().out
    assert verdict.count(" ok\n") == 7 and verdict.endswith("synthetic\n")

    changed = bytearray((tmp_path / "a" / "test_batch").read_bytes())
    changed[changed.index(b"T") + 5000] ^= 1  # a pixel
    (tmp_path / "a" / "test_batch").write_bytes(changed)
    assert cifar10_utils.main(["verify", str(tmp_path / "a")]) == 2
    assert "test_batch    changed since it was drawn" in capsys.readouterr().out


@pytest.mark.parametrize(("train_size", "test_size"), [(4, 10), (50, 0), (-1, 10), (100_001, 10), (50, 20_001)])
def test_size_out_of_range(tmp_path, train_size, test_size):
    with pytest.raises(ValueError, match=rf"5\.\.100000.*1\.\.20000, got {train_size} and {test_size}"):
        make_standin(tmp_path / "a", train_size, test_size)
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_overwritten(tmp_path):
    (tmp_path / "mine").touch()
    for folder in (tmp_path, tmp_path / "mine"):
        with pytest.raises(ValueError, match="exists and is not an empty folder"):
            make_standin(folder, 20, 10)
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_interrupted_leaves_nothing(tmp_path, monkeypatch):
    def interrupted(path, content):
        raise KeyboardInterrupt

    monkeypatch.setattr(cifar10_standin, "_write", interrupted)
    with pytest.raises(KeyboardInterrupt):
        make_standin(tmp_path / "new" / "a", 20, 10)
    assert list(tmp_path.iterdir()) == []


def test_command_line(tmp_path, capsys):
    flags = ["standin", str(tmp_path / "new" / "a"), "--train_size", "30", "--test_size", "10", "--seed", "5"]
    assert cifar10_utils.main(flags) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'new' / 'a'}: synthetic\n"
    make_standin(tmp_path / "b", 30, 10, 5)
    assert content(tmp_path / "new" / "a") == content(tmp_path / "b")
    assert cifar10_utils.main(flags) == 2
    assert "exists and is not an empty folder" in capsys.readouterr().err
    assert cifar10_utils.main([*flags[:1], str(tmp_path / "b" / "MD5SUMS" / "c"), *flags[2:]]) == 2
    assert "choose another folder" in capsys.readouterr().err


def test_pictures_differ_and_use_the_whole_range():
    labels, pixels = draw(1000, np.random.default_rng(0))
    assert (np.bincount(labels) == 100).all()
    assert len(np.unique(pixels, axis=0)) == 1000
    assert pixels.min() == 0 and pixels.max() == 255 and 30 < pixels.std() < 80
    assert np.isin([0, 255], pixels).all() and (np.isin(pixels, [0, 255])).mean() < 0.1  # few are clipped


@pytest.mark.slow
def test_networks_do_as_on_cifar10():
    """The default MLP, with its default flags, lands between 0.40 and 0.65; a small ConvNet 0.15 above it."""
    import torch
    from torch import nn

    (labels, pixels), (test_labels, test_pixels) = (draw(n, np.random.default_rng(n)) for n in (20_000, 2_000))
    mean = pixels.mean(axis=0, dtype=np.float32)
    one_hot, test_images = np.eye(10, dtype=np.float32)[labels], test_pixels - mean
    rng = np.random.default_rng(0)

    mlp, loss = MLP(3072, [100], 10, rng=rng), CrossEntropyModule()
    for _ in range(1400):
        rows = rng.integers(0, len(pixels), 200)
        probabilities = mlp.forward(pixels[rows] - mean)
        mlp.backward(loss.backward(probabilities, one_hot[rows]))
        for layer in mlp.layers:
            if isinstance(layer, LinearModule):
                for key, gradient in layer.grads.items():
                    layer.params[key] -= 1e-3 * gradient
    mlp_accuracy = (mlp.forward(test_images).argmax(axis=1) == test_labels).mean()

    torch.manual_seed(0)
    blocks = [
        nn.Sequential(nn.Conv2d(i, o, 3, padding=1), nn.BatchNorm2d(o), nn.ReLU(), nn.MaxPool2d(2))
        for i, o in ((3, 8), (8, 16), (16, 32))
    ]
    convnet = nn.Sequential(*blocks, nn.Flatten(), nn.Linear(512, 10))
    optimizer = torch.optim.Adam(convnet.parameters(), 4e-3)
    for _ in range(500):
        rows = rng.integers(0, len(pixels), 64)
        images = torch.from_numpy(pixels[rows] - mean).view(-1, 3, 32, 32) / 64
        optimizer.zero_grad()
        nn.functional.cross_entropy(convnet(images), torch.from_numpy(labels[rows])).backward()
        optimizer.step()
    convnet.eval()
    with torch.no_grad():
        logits = convnet(torch.from_numpy(test_images).view(-1, 3, 32, 32) / 64)
    convnet_accuracy = (logits.argmax(dim=1).numpy() == test_labels).mean()

    print(f"accuracy of the MLP {mlp_accuracy:.3f}, of the ConvNet {convnet_accuracy:.3f}")
    assert 0.40 < mlp_accuracy < 0.65
    assert convnet_accuracy > mlp_accuracy + 0.15
