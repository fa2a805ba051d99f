"""The study CNN: its layers, its flags with defaults of their own, its path through the ConvNet's script."""

import json
import os
import signal

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import cifar10_utils
import train_convnet_pytorch as script
import training.run
import training.script
from networks.studynet import ACTIVATIONS, StudyNet
from training.flags import UserError
from training.trainer import load_torch

pytestmark = pytest.mark.systems


def run(*argv):
    return training.script.run_script(script.Config, script.train, script.__doc__, [str(a) for a in argv])


def flags(folder):
    return json.loads((folder / "config.json").read_text())["flags"]


# ---------------------------------------------------------------- the net


def test_same_as_the_layers_written_out():
    """conv 6, ReLU, pool, conv 16, ReLU, pool, 120, 84, 10 on pixels scaled to [-1, 1]."""
    torch.manual_seed(0)
    net = StudyNet(3, 10).double()
    x = torch.randn(4, 3, 32, 32, dtype=torch.float64) * 60
    conv1, conv2 = (m for m in net.features if isinstance(m, nn.Conv2d))
    y = F.max_pool2d(F.relu(F.conv2d(x / 127.5, conv1.weight, conv1.bias)), 2)
    y = F.max_pool2d(F.relu(F.conv2d(y, conv2.weight, conv2.bias)), 2)
    assert y.shape == (4, 16, 5, 5)
    fc1, fc2, fc3 = (m for m in net.classifier if isinstance(m, nn.Linear))
    y = fc3(F.relu(fc2(F.relu(fc1(y.flatten(1))))))
    torch.testing.assert_close(net(x), y)
    assert sum(p.numel() for p in net.parameters()) == 62_006


@pytest.mark.parametrize(("channels", "fc", "inputs"), [
    ([20, 25], [275, 84], 25 * 5 * 5), ([15, 20, 25], [120, 84], 25 * 2 * 2), ([8], [], 8 * 14 * 14), ([4, 4, 4, 4], [9], 4)])
def test_widths(channels, fc, inputs):
    net = StudyNet(3, 10, channels, fc)
    assert [m.out_channels for m in net.modules() if isinstance(m, nn.Conv2d)] == channels
    assert [m.out_features for m in net.modules() if isinstance(m, nn.Linear)] == [*fc, 10]
    assert next(m for m in net.modules() if isinstance(m, nn.Linear)).in_features == inputs
    assert net(torch.randn(2, 3, 32, 32)).shape == (2, 10)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activation_is_that_of_the_fully_connected_layers(activation):
    net = StudyNet(3, 10, activation=activation)
    assert sum(isinstance(m, ACTIVATIONS[activation]) for m in net.classifier) == 2
    assert sum(isinstance(m, nn.ReLU) for m in net.features) == 2


def test_dropout_in_training_only():
    torch.manual_seed(0)
    net, x = StudyNet(3, 10, dropout=0.5), torch.randn(2, 3, 32, 32) * 60
    assert sum(isinstance(m, nn.Dropout) for m in net.modules()) == 2
    assert not torch.equal(net(x), net(x))
    assert torch.equal(net.eval()(x), net(x))


def test_fifth_convolution_does_not_fit():
    with pytest.raises(ValueError, match="32 pixels"):
        StudyNet(3, 10, [4] * 5)


# ---------------------------------------------------------------- the script


def test_each_model_has_its_defaults():
    def shown(config):
        return (config.learning_rate, config.momentum, config.batch_size, config.epochs, config.max_steps, config.optimizer)

    assert shown(script.Config()) == (1e-4, 0.0, 32, 0, 5000, "adam")
    assert shown(script.Config(model="study")) == (1e-3, 0.9, 4, 5, 62_500, "sgd")
    assert shown(script.Config(model="study", max_steps=10)) == (1e-3, 0.9, 4, 0, 10, "sgd")
    assert shown(script.Config(model="study", learning_rate=0.01, epochs=2)) == (0.01, 0.9, 4, 2, 62_500, "sgd")


def test_defaults_give_five_epochs_of_steps(standin):
    data = cifar10_utils.get_cifar10(standin, one_hot=False)
    plan = training.run.Plan(script.Config(model="study"), data)
    assert plan.last_step == 5 * 2000 // 4
    assert [step for step in range(1, 2501) if plan.evaluates(step)] == [500, 1000, 1500, 2000, 2500]


@pytest.mark.parametrize("bad", [
    ["--model", "other"], ["--model", "study", "--pixel_scale", "0.016"],
    ["--model", "study", "--channels", "0"], ["--model", "study", "--channels", "4,4,4,4,4"],
    ["--model", "study", "--channels", ""], ["--model", "study", "--activation", "gelu"], ["--model", "study", "--epochs", "-1"],
    ["--model", "study", "--dropout", "1"], ["--channels", "20,25"], ["--dropout", "0.2"]])
def test_bad_flags(bad, standin, tmp_path, capsys):
    assert run("--data_dir", standin, *bad, "--output_dir", tmp_path / "run") == 2
    message = capsys.readouterr().err
    assert bad[-2] in message
    assert message.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_study_flags_from_python_are_refused_for_the_convnet():
    with pytest.raises(UserError, match="--model study"):
        script.Config(fc=[10])


def test_trains_and_resumes_bit_for_bit(standin, tmp_path, monkeypatch):
    base = ["--data_dir", standin, "--device", "cpu", "--model", "study", "--channels", "4,6,8", "--fc", 20, "--dropout", 0.5, "--activation",
            "tanh", "--batch_size", 500, "--epochs", 2, "--learning_rate", 0.1, "--lr_schedule", "one_cycle"]
    assert run(*base, "--output_dir", tmp_path / "whole") == 0
    real, calls = cifar10_utils.DataSet.next_indices, []

    def interrupted(self, size):
        calls.append(size)
        if len(calls) == 3:
            os.kill(os.getpid(), signal.SIGINT)
        return real(self, size)

    with monkeypatch.context() as patch:
        patch.setattr(cifar10_utils.DataSet, "next_indices", interrupted)
        assert run(*base, "--output_dir", tmp_path / "cut") == 130
    assert run("--resume", tmp_path / "cut") == 0
    one, other = (load_torch(tmp_path / name / "last.pt")["state"]["model"] for name in ("whole", "cut"))
    assert all(torch.equal(one[key], other[key]) for key in one)
    assert flags(tmp_path / "cut")["epochs"] == 2
    assert flags(tmp_path / "cut")["momentum"] == 0.9
    assert flags(tmp_path / "cut")["channels"] == [4, 6, 8]


def test_learns_twenty_images_by_heart(standin):
    torch.manual_seed(0)
    net = StudyNet(3, 10)
    images, labels = map(torch.from_numpy, next(cifar10_utils.get_cifar10(standin, one_hot=False).train.batches(20)))
    assert abs(float(F.cross_entropy(net(images), labels).detach()) - 2.303) < 0.15  # ln 10
    optimizer = torch.optim.Adam(net.parameters(), 3e-3)
    for _ in range(80):
        loss = F.cross_entropy(net(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert training.run.accuracy(net(images), labels) == 1
