"""Transfer learning: weights from a file, head and body, what is frozen, the whole path, bad input."""

import csv
import json
import os
import re
import signal
import urllib.error

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torchvision.models import get_model

import cifar10_utils
import train_transfer_pytorch as script
import training.console
import training.script
from imagefiles import cifar10_standin
from networks import transfer as transfer_models
from training.flags import UserError
from training.trainer import load_torch

pytestmark = [pytest.mark.q4b, pytest.mark.systems]
MEAN_IMAGE = np.random.default_rng(0).uniform(100, 150, (3, 32, 32)).astype(np.float32)


@pytest.fixture(scope="session")
def resnet18_file(tmp_path_factory):
    """A weights file of resnet18 as torchvision publishes it, with random weights."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "resnet18.pth"
    torch.save(get_model("resnet18", weights=None).state_dict(), path)
    return path


@pytest.fixture(scope="session")
def small(tmp_path_factory):
    folder = tmp_path_factory.mktemp("small") / "cifar-10-batches-py"
    cifar10_standin.make_standin(folder, train_size=60, test_size=20, seed=0)
    return folder


def run(*argv):
    return training.script.run_script(script.Config, script.train, script.__doc__, [str(a) for a in argv])


def rows(folder):
    with open(folder / "metrics.csv", newline="") as file:
        return [(r["step"], r["split"], r["loss"], r["accuracy"]) for r in csv.DictReader(file)]


def quick(data, weights, *more):
    return ["--data_dir", data, "--model", "resnet18", "--weights", weights, "--image_size", 32, "--max_steps", 4,
            "--batch_size", 8, "--eval_freq", 2, "--linear_probe", 1, *more]


def build(weights, image_size=32, **kinds):
    return transfer_models.build("resnet18", MEAN_IMAGE, image_size, str(weights), **kinds)


# ---------------------------------------------------------------- the net


def test_body_sees_what_imagenet_weights_want(resnet18_file):
    """Pixels 0..255 again, resized, scaled to 0..1, torchvision's mean and deviation: features as torchvision's."""
    net = build(resnet18_file, 48).eval()
    pixels = np.random.default_rng(1).integers(0, 256, (5, 3, 32, 32)).astype(np.float32)
    whole = get_model("resnet18", weights=None)
    whole.load_state_dict(torch.load(resnet18_file, weights_only=True))
    whole.fc = torch.nn.Identity()
    x = F.interpolate(torch.from_numpy(pixels) / 255, (48, 48), mode="bilinear")
    x = (x - torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)) / torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
    torch.testing.assert_close(net.features(torch.from_numpy(pixels - MEAN_IMAGE)), whole.eval()(x), rtol=1e-3, atol=1e-4)
    assert net(torch.from_numpy(pixels - MEAN_IMAGE)).shape == (5, 10)


def test_frozen_part_keeps_its_weights_and_statistics(resnet18_file):
    net = build(resnet18_file)
    net.freeze_before("layer4")
    before = {k: v.clone() for k, v in net.state_dict().items()}
    optimizer = torch.optim.SGD(net.parameter_groups(0.1, 2.0))
    assert [group["lr"] for group in optimizer.param_groups] == [0.1, 0.2]
    net.eval()
    net.train()
    F.cross_entropy(net(torch.randn(8, 3, 32, 32) * 50), torch.arange(8)).backward()
    optimizer.step()
    changed = {k for k, v in net.state_dict().items() if not torch.equal(v, before[k])}
    assert {"head.weight", "body.layer4.0.conv1.weight", "body.layer4.1.bn2.running_mean"} <= changed
    assert all(k.startswith(("head.", "body.layer4.")) for k in changed)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["squeezenet1_1", "mobilenet_v3_small", "densenet121", "googlenet"])
def test_other_heads(name, tmp_path):
    """Heads that are a convolution, the last of several layers, or beside auxiliary ones."""
    extra = {"init_weights": False} if name == "googlenet" else {}
    torch.save(get_model(name, weights=None, **extra).state_dict(), tmp_path / "weights.pth")
    net = transfer_models.build(name, MEAN_IMAGE, 64, str(tmp_path / "weights.pth"))
    assert net.train()(torch.randn(2, 3, 32, 32)).shape == (2, 10)


def test_lite0_comes_with_its_weights(monkeypatch):
    pytest.importorskip("efficientnet_lite_pytorch")
    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", lambda *_, **__: pytest.fail("went to the network"))
    net = transfer_models.build("efficientnet_lite0", MEAN_IMAGE, 32)
    assert sum(p.numel() for p in net.parameters()) == 3_371_008 + 12_810
    assert net(torch.randn(2, 3, 32, 32)).shape == (2, 10)
    assert float(net.body.state_dict()["_bn0.running_mean"].std()) > 0.1  # trained, not fresh


# ---------------------------------------------------------------- the script


@pytest.mark.slow
def test_fine_tuning_resumes_bit_for_bit(small, resnet18_file, tmp_path, monkeypatch):
    base = quick(small, resnet18_file, "--device", "cpu", "--head_lr_factor", 10, "--unfreeze_from", "layer4")
    assert run(*base, "--output_dir", tmp_path / "whole") == 0
    real, calls = cifar10_utils.DataSet.next_indices, []

    def interrupted(self, size):
        calls.append(size)
        if calls.count(8) == 2:
            os.kill(os.getpid(), signal.SIGINT)
        return real(self, size)

    with monkeypatch.context() as patch:
        patch.setattr(cifar10_utils.DataSet, "next_indices", interrupted)
        assert run(*base, "--output_dir", tmp_path / "cut") == 130
    assert calls == [60, 8, 8]  # the probe's epoch, then two steps
    assert run("--resume", tmp_path / "cut") == 0
    assert rows(tmp_path / "whole") == rows(tmp_path / "cut")
    one, other = (load_torch(tmp_path / name / "last.pt")["state"]["model"] for name in ("whole", "cut"))
    assert all(torch.equal(one[key], other[key]) for key in one)


def test_a_schedule_is_not_stretched(small, resnet18_file, tmp_path, capsys):
    out = tmp_path / "run"
    assert run(*quick(small, resnet18_file, "--freeze", "backbone", "--linear_probe", 0), "--output_dir", out) == 0
    assert "one_cycle was laid out for 4 steps, not 6" in refused(capsys, "--resume", out, "--max_steps", 6)


def test_linear_probe_learns_and_leaves_the_body(small, resnet18_file, monkeypatch, capsys):
    data = cifar10_utils.get_cifar10(small, one_hot=False)
    net = transfer_models.build("resnet18", data.mean_image, 32, str(resnet18_file))
    before = {k: v.clone() for k, v in net.state_dict().items()}
    device = torch.device("cpu")
    features = script.empty_features(data.train, 512)
    with monkeypatch.context() as patch:  # as if it took longer than 10 seconds
        patch.setattr(script, "FEATURE_BATCH", 20)
        patch.setattr(training.console, "LONG", 0)
        patch.setattr(training.console, "SOON", 0)
        script.compute_features(net, data.train, features, device)
    assert re.match(rf"computing features: 20 of {data.train.num_examples} images, \d\d:\d\d left\n", capsys.readouterr().err)
    images, labels = next(data.train.batches(10))
    torch.testing.assert_close(torch.from_numpy(features.images[:10, :, 0, 0]), net.features(torch.from_numpy(images)),
                               rtol=1e-3, atol=1e-4)
    losses = []
    for epochs in (0, 60):
        script.linear_probe(net, data.train, epochs, device)
        losses.append(float(F.cross_entropy(net(torch.from_numpy(images)).detach(), torch.from_numpy(labels))))
    assert losses[1] < losses[0] - 0.2
    assert {k for k, v in net.state_dict().items() if not torch.equal(v, before[k])} == {"head.weight", "head.bias"}


def test_frozen_backbone_trains_the_head_on_cached_features(small, resnet18_file, tmp_path, monkeypatch):
    passes = []
    real = transfer_models.TransferNet.features
    monkeypatch.setattr(transfer_models.TransferNet, "features",
                        lambda self, x: (passes.append(len(x)), real(self, x))[1])
    out = tmp_path / "run"
    assert run(*quick(small, resnet18_file, "--freeze", "backbone", "--linear_probe", 0, "--validation_size", 20,
                      "--lr_schedule", "constant"),
               "--output_dir", out) == 0
    assert passes == [1, 40, 20, 20]  # the trial, then each split once, whatever the number of steps
    summary = json.loads((out / "summary.json").read_text())
    assert summary["parameters"] == 5130
    assert run("--resume", out, "--max_steps", 6) == 0
    assert [r[0] for r in rows(out) if r[1] == "validation"] == ["2", "4", "6"]


# ---------------------------------------------------------------- bad input


def refused(capsys, *argv):
    assert run(*argv) == 2
    message = capsys.readouterr().err
    assert "Traceback" not in message
    return message


@pytest.mark.parametrize(("flags", "says"), [
    (["--model", "resnet81"], "--model: 'resnet81' is not one of"),
    (["--image_size", "-1"], "--image_size"),
    (["--unfreeze_from", "layer9"], "no part 'layer9'"),
    (["--freeze", "backbone", "--linear_probe", 0, "--unfreeze_from", "layer4"], "--unfreeze_from has no effect"),
    (["--freeze", "backbone", "--linear_probe", 0, "--flip", "on"], "--flip has no effect: it needs --freeze none"),
    (["--model", "vit_b_16", "--weights", ""], "bring https://"),
    (["--model", "resnet34"], "does not hold the weights of resnet34"),
    (["--head_lr_factor", "0"], "--head_lr_factor"),
])
def test_bad_flags(flags, says, small, resnet18_file, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr("urllib.request.urlopen", _no_network)
    message = refused(capsys, *quick(small, resnet18_file), *flags, "--output_dir", tmp_path / "run")
    assert says in message
    assert message.count("\n") == (3 if "bring" in message else 1)
    assert not (tmp_path / "run").exists()


def _no_network(*_, **__):
    raise urllib.error.URLError("no network")


def test_no_weights_within_reach_says_what_to_bring(tmp_path, monkeypatch, small, capsys):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr("urllib.request.urlopen", _no_network)
    lines = refused(capsys, "--data_dir", small, "--model", "resnet18", "--output_dir", tmp_path / "r").splitlines()
    lines = [line for line in lines if not line.startswith("Downloading:")]
    assert len(lines) == 3
    assert lines[1].endswith("resnet18-f37072fd.pth")
    assert str(tmp_path / "checkpoints" / "resnet18-f37072fd.pth") in lines[2] and "--weights FILE" in lines[2]


def test_weights_in_torchs_cache_are_found(tmp_path, monkeypatch, resnet18_file):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "resnet18-f37072fd.pth").write_bytes(resnet18_file.read_bytes())
    cached = transfer_models.build("resnet18", MEAN_IMAGE, 32).body.state_dict()
    assert torch.equal(cached["conv1.weight"], torch.load(resnet18_file, weights_only=True)["conv1.weight"])


@pytest.mark.parametrize("damage", ["missing", "truncated", "garbage", "pickle", "other"])
def test_bad_weights_files(damage, resnet18_file, tmp_path):
    path = tmp_path / "weights.pth"
    content = {"truncated": resnet18_file.read_bytes()[:-5000], "garbage": os.urandom(3000),
               "pickle": b"cos\nsystem\n(S'touch " + os.fsencode(tmp_path / "executed") + b"'\ntR."}
    if damage == "other":
        torch.save({"conv1.weight": torch.zeros(3)}, path)
    elif damage != "missing":
        path.write_bytes(content[damage])
    with pytest.raises(UserError, match="--weights") as error:
        build(path)
    assert "\n" not in str(error.value)
    assert str(path) in str(error.value)
    assert not (tmp_path / "executed").exists()


def test_image_too_small(tmp_path):
    torch.save(get_model("alexnet", weights=None).state_dict(), tmp_path / "alexnet.pth")
    with pytest.raises(UserError, match="--image_size: alexnet cannot take images of 32 pixels"):
        transfer_models.build("alexnet", MEAN_IMAGE, 32, str(tmp_path / "alexnet.pth"))
