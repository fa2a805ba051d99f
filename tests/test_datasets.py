"""--dataset in every script: MNIST and CIFAR-10 in each, and a new data set, which is a row of the table."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from optuna.distributions import CategoricalDistribution
from script_runs import ROOT, rows
from test_mnist import arrays, idx
from torchvision.models import get_model

import search_mlp_pytorch
import train_convnet_pytorch
import train_mlp_autodiff
import train_mlp_numpy
import train_mlp_pytorch
import train_transfer_pytorch
import training.script
from cifar10_utils import get_cifar10
from training.datasets import DATASETS
from training.flags import TrainingFlags

pytestmark = [pytest.mark.training, pytest.mark.data]
STEPS = ["--max_steps", "2", "--eval_freq", "1", "--batch_size", "8"]
RUNS = {
    train_mlp_numpy: STEPS, train_mlp_pytorch: STEPS, train_convnet_pytorch: STEPS,
    train_transfer_pytorch: [*STEPS, "--model", "resnet18", "--image_size", "32", "--linear_probe", "1"],
    train_mlp_autodiff: ["--epochs", "1", "--repeats", "1", "--activation", "relu", "--batch_size", "8", "--validation_size", "6"],
}


@pytest.fixture(scope="module")
def mnist(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mnist")
    for name, array in arrays().items():
        (folder / name).write_bytes(idx(array))
    return folder


def start(script, *argv):
    return training.script.run_script(script.Config, script.train, "", [*map(str, argv)])


@pytest.mark.parametrize(("script", "more"), [*((script, []) for script in RUNS), (train_convnet_pytorch, ["--model", "study"]),
                                              (train_transfer_pytorch, ["--freeze", "backbone"]), (train_mlp_pytorch, ["--blocks", "1"])])
def test_mnist_in_every_script(script, more, mnist, tmp_path):
    if script is train_transfer_pytorch:
        torch.save(get_model("resnet18", weights=None).state_dict(), tmp_path / "weights.pth")
        more = [*more, "--weights", tmp_path / "weights.pth"]
    flags = RUNS[script][:-2] if "--freeze" in more else RUNS[script]
    out = tmp_path / "run"
    assert start(script, "--dataset", "mnist", "--data_dir", mnist, *flags, *more, "--output_dir", out) == 0
    config, summary = (json.loads((out / name).read_text()) for name in ("config.json", "summary.json"))
    assert config["data_name"] == "MNIST" and 0 <= summary["test_accuracy"] <= 1
    if script in (train_mlp_numpy, train_mlp_pytorch) and not more:
        assert summary["parameters"] == 28 * 28 * 100 + 100 + 1010
    folder = out / "relu-1" if script is train_mlp_autodiff else out
    assert abs(float(rows(folder)[0]["loss"])) < 50


def test_cifar10_on_the_tape(standin, tmp_path):
    """Pixels of unit size, without which the learning rate would be far too high."""
    flags = [*RUNS[train_mlp_autodiff][:-4], "--batch_size", "32", "--validation_size", "100", "--dnn_hidden_units", "30"]
    assert start(train_mlp_autodiff, "--dataset", "cifar10", "--data_dir", standin, *flags, "--output_dir", tmp_path / "run") == 0
    assert json.loads((tmp_path / "run/summary.json").read_text())["test_accuracy"] > 0.2


def test_a_search_on_mnist(mnist, tmp_path, monkeypatch):
    flags = ["--trials", "1", "--epochs", "1", "--validation_size", "6", "--output_dir", tmp_path / "s"]
    monkeypatch.setitem(search_mlp_pytorch.SPACE, "batch_size", CategoricalDistribution([8]))
    assert training.script.run_script(search_mlp_pytorch.Config, search_mlp_pytorch.search, "", [
        *map(str, flags), "--dataset", "mnist", "--data_dir", str(mnist)]) == 0
    assert json.loads((tmp_path / "s/best.json").read_text())["flags"]["dataset"] == "mnist"


def test_each_has_a_folder_of_its_own():
    for name, source in DATASETS.items():
        assert train_mlp_pytorch.Config(dataset=name).data_dir == source.folder
        assert train_mlp_pytorch.Config(dataset=name, data_dir="mine").data_dir == "mine"
        assert train_mlp_autodiff.Config(dataset=name).data_dir == source.folder
    assert TrainingFlags.data_dir == "./cifar10/cifar-10-batches-py"  # the assignment's


@pytest.mark.real_data
def test_the_deviation_of_pixels(cifar10_dir):
    train = get_cifar10(cifar10_dir, one_hot=False).train
    assert abs(train.pixels[::10].astype(np.float32) - train.mean).max() > 100
    assert abs((train.pixels[::10] - train.mean).std() / DATASETS["cifar10"].pixel_std - 1) < 0.01


@pytest.mark.parametrize("script", ["train_mlp_numpy", "train_mlp_pytorch", "train_convnet_pytorch"])
@pytest.mark.parametrize("side", [24, 36])
def test_a_new_data_set_is_a_function_and_a_row(script, side, tmp_path):
    """Four classes, images of two channels: shapes and classes are counted from what the function gives."""
    done = on_stripes(script, side, "validation_size, one_hot", *STEPS, "--output_dir", tmp_path / "run")
    if script == "train_convnet_pytorch" and side == 36:
        assert done.returncode == 2 and "17 to 32 pixels a side, not 36 x 36" in done.stderr and done.stderr.count("\n") == 1
        return
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "run/config.json").read_text())["flags"]["data_dir"] == "./stripes"
    assert abs(float(rows(tmp_path / "run")[0]["loss"]) - np.log(4)) < 0.7


@pytest.mark.parametrize("script, passed_on, wrong", [
    ("train_mlp_numpy", "validation_size, False", "labels of shape (30,) where one_hot=True"),
    ("train_mlp_autodiff", "validation_size, True", "labels of shape (30, 4) where one_hot=False"),
    ("train_mlp_numpy", "0, one_hot", "0 validation images where validation_size=10"),
    ("train_mlp_pytorch", "0, one_hot", "0 validation images where validation_size=10")])
def test_the_function_of_a_data_set_does_as_it_is_asked(script, passed_on, wrong, tmp_path):
    """What it ignores is told in a line that names the function."""
    done = on_stripes(script, 24, passed_on, "--validation_size", "10", "--output_dir", tmp_path / "run")
    assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr
    assert "stripes: its function gives " + wrong in done.stderr
    assert not (tmp_path / "run").exists()


def on_stripes(script: str, side: int, passed_on: str, *flags: object) -> subprocess.CompletedProcess:
    """The script on a data set of a user's own, whose function passes on what it is asked for."""
    code = f"""
import sys
import numpy as np
from imagefiles.dataset import make_splits
from training.datasets import DATASETS, Source

def stripes(data_dir, one_hot, validation_size, seed, scale):
    labels = np.arange(40) % 4
    images = np.zeros((40, 2, {side}, {side}), np.uint8)
    for image, label in zip(images, labels):
        image[:, :, label::4] = 200
    return make_splits((images, labels), (images, labels), [], {passed_on}, seed, scale, state="published",
                       name="stripes", class_names=("a", "b", "c", "d"))

DATASETS["stripes"] = Source(stripes, "./stripes", 80.0)
import {script} as script
from training.script import run_script
sys.exit(run_script(script.Config, script.train, "", sys.argv[1:]))
"""
    return subprocess.run([sys.executable, "-c", code, "--dataset", "stripes", *flags], cwd=ROOT, capture_output=True, text=True,
                          check=False)
