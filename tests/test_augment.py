"""Flips, shifts, cutout and mixup do to each image what they say, randomly and reproducibly; averaged weights are averages."""

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from script_runs import QUICK, rows, run, untimed, weights

import training.trainer
from cifar10_utils import get_cifar10
from training.augment import cutout, flip, mix, shift
from training.flags import UserError
from training.trainer import TorchFlags, Trainer, augmented, load_torch

pytestmark = pytest.mark.training
STUDY = ["--model", "study"]


@pytest.fixture
def x():
    torch.manual_seed(0)
    return torch.randn(300, 3, 8, 9)


def test_flip_mirrors_about_half_of_the_images(x):
    y = flip(x)
    mirrored = (y == x.flip(3)).flatten(1).all(1)
    kept = (y == x).flatten(1).all(1)
    assert (mirrored ^ kept).all()
    assert 100 < int(mirrored.sum()) < 200


def test_shift_moves_each_image_by_whole_pixels_and_fills_with_zero(x):
    y = shift(x, 2)
    padded = F.pad(x, (2,) * 4)
    found = torch.stack([(padded[:, :, i:i + 8, j:j + 9] == y).flatten(1).all(1) for i in range(5) for j in range(5)])
    assert (found.sum(0) == 1).all()
    assert (found.sum(1) > 0).all()  # all 25 places occur
    assert torch.equal(shift(x, 0), x)


def test_shift_mirrors_the_image_at_its_border(x):
    y = shift(x, 2, "reflect")
    padded = F.pad(x, (2,) * 4, "reflect")
    found = torch.stack([(padded[:, :, i:i + 8, j:j + 9] == y).flatten(1).all(1) for i in range(5) for j in range(5)])
    assert (found.sum(0) == 1).all() and (found.sum(1) > 0).all()
    with pytest.raises(UserError, match="--shift: 28 pixels"):
        TorchFlags(shift=28, shift_fill="reflect")


@pytest.mark.parametrize("pixels", [1, 3, 8, 20])
def test_cutout_clears_one_whole_square_anywhere_in_each_image(x, pixels):
    y = cutout(x, pixels)
    cleared = (y == 0) & (x != 0)
    assert torch.equal(y[~cleared], x[~cleared])
    assert (cleared.all(1) == cleared.any(1)).all()  # in all channels alike
    high, wide = min(pixels, 8), min(pixels, 9)
    places = set()
    for image in cleared[:, 0]:
        rows, columns = (image.any(axis).nonzero().flatten() for axis in (1, 0))
        assert len(rows) == high and len(columns) == wide and image.sum() == high * wide
        places.add((int(rows[0]), int(columns[0])))
    assert len(places) == (9 - high) * (10 - wide)  # all of them occur


@pytest.mark.parametrize("batch_size", [20, 48])
def test_alternating_flips_mirror_each_image_in_every_second_epoch(batch_size, standin, monkeypatch):
    """Also in batches that begin in one epoch and end in the next."""
    seen, drawn = [], []
    monkeypatch.setattr(training.trainer, "flip", lambda x, mirrored: seen.extend(mirrored.tolist()) or x)
    data = get_cifar10(standin, one_hot=False)
    next_indices = data.train.next_indices
    data.train.next_indices = lambda size: drawn.extend(chosen := next_indices(size)) or chosen
    config = TorchFlags(flip="alternate", batch_size=batch_size)
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3072, 10))
    trainer = Trainer(net, list(net.parameters()), data, config, torch.device("cpu"), 1)
    n = data.train.num_examples
    while len(drawn) < 3 * n:
        trainer.step()
    mirrored = np.zeros((3, n), bool)
    for position, (index, flipped) in enumerate(zip(drawn[:3 * n], seen, strict=False)):
        mirrored[position // n, index] = flipped
    assert (mirrored[0] ^ mirrored[1]).all() and (mirrored[0] == mirrored[2]).all()
    assert 0.3 < mirrored[0].mean() < 0.7


def test_mix_is_the_same_blend_of_images_and_losses(x):
    y, partner, weight = mix(x, 0.8)
    assert 0 <= weight <= 1 and sorted(partner.tolist()) == list(range(300))
    torch.testing.assert_close(y, weight * x + (1 - weight) * x[partner])
    targets = torch.arange(300) % 10
    torch.manual_seed(5)
    mixed, pairs = augmented(x, targets, TorchFlags(mixup=0.8, label_smoothing=0.1))
    torch.manual_seed(5)
    again, partner, weight = mix(x, 0.8)
    assert torch.equal(mixed, again)
    logits = torch.randn(300, 10)
    smooth = 0.9 * F.one_hot(targets, 10) + 0.01
    both = weight * smooth + (1 - weight) * smooth[partner]
    loss = sum(share * F.cross_entropy(logits, labels, label_smoothing=0.1) for labels, share in pairs)
    torch.testing.assert_close(loss, -(both * logits.log_softmax(1)).sum(1).mean())


def test_without_flags_nothing_is_changed_and_no_random_number_is_drawn(x):
    targets = torch.zeros(300, dtype=torch.long)
    before = torch.get_rng_state()
    y, [(labels, share)] = augmented(x, targets, TorchFlags())
    assert y is x and labels is targets and share == 1
    assert torch.equal(torch.get_rng_state(), before)


AUGMENTED = [*STUDY, "--flip", "alternate", "--shift", "2", "--shift_fill", "reflect", "--cutout", "8", "--mixup", "0.5", "--label_smoothing", "0.1", "--ema_decay", "0.5",
             "--dropout", "0.2"]


def test_an_augmented_run_is_resumed_bit_for_bit(standin, tmp_path):
    base = ["--data_dir", standin, *QUICK, *AUGMENTED]
    assert run("train_convnet_pytorch", *base, "--output_dir", tmp_path / "whole") == 0
    assert run("train_convnet_pytorch", *base, "--max_steps", 2, "--output_dir", tmp_path / "half") == 0
    assert run("train_convnet_pytorch", "--resume", tmp_path / "half", "--max_steps", 4) == 0
    assert untimed(tmp_path / "whole")[-2:] == untimed(tmp_path / "half")[-2:]
    whole, half = weights(tmp_path / "whole"), weights(tmp_path / "half")
    assert all((whole[key] == half[key]).all() for key in whole)
    one, other = (load_torch(tmp_path / name / "last.pt")["state"]["average"] for name in ("whole", "half"))
    assert all(torch.equal(one[key], other[key]) for key in one)


def test_what_is_evaluated_is_the_moving_average(standin, tmp_path):
    """Steps 1 to 3 with decay d: w1 is taken over, then a = d a + (1 - d) w."""
    import train_mlp_pytorch as script
    from cifar10_utils import get_cifar10
    from training.trainer import evaluate

    base = ["--data_dir", standin, "--batch_size", 20, "--eval_freq", 3, "--ema_decay", 0.75]
    states = []
    for steps in (1, 2, 3):
        out = tmp_path / str(steps)
        assert run("train_mlp_pytorch", *base, "--max_steps", steps, "--output_dir", out) == 0
        states.append(load_torch(out / "last.pt")["state"])
    average = states[0]["model"]
    for state in states[1:]:
        average = {key: 0.75 * average[key] + 0.25 * value for key, value in state["model"].items()}
    kept = {key.removeprefix("module."): value for key, value in states[2]["average"].items() if key != "n_averaged"}
    for key, value in average.items():
        torch.testing.assert_close(kept[key], value)
    model = script.build_model(script.Config())
    model.load_state_dict(kept)
    data = get_cifar10(standin, one_hot=False)
    loss, _ = evaluate(model, data.test, torch.device("cpu"))
    assert float(rows(tmp_path / "3")[-1]["loss"]) == pytest.approx(loss, rel=1e-4)
    assert json.loads((tmp_path / "3/summary.json").read_text())["test_loss"] == pytest.approx(loss, abs=1e-3)
