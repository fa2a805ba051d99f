"""What the PyTorch scripts put around a network: dropout of the input, the layout of images, averages over flips."""

import numpy as np
import pytest
import torch
from torch import nn

import train_mlp_pytorch
from cifar10_utils import get_cifar10
from mlp_pytorch import MLP
from training.trainer import FlipAverage, TorchFlags, Trainer, augmented, prepare

pytestmark = pytest.mark.training


@pytest.mark.parametrize("blocks", [0, 2])
def test_input_dropout_zeroes_inputs_while_training_and_nothing_in_evaluation(blocks):
    seen = []
    model = train_mlp_pytorch.build_model(train_mlp_pytorch.Config(input_dropout=0.25, blocks=blocks))
    next(m for m in model.modules() if isinstance(m, nn.Linear)).register_forward_pre_hook(
        lambda _, inputs: seen.append(inputs[0]))
    x = torch.ones(40, 3, 32, 32)
    model(x), model.eval()(x)
    assert float((seen[0] == 0).float().mean()) == pytest.approx(0.25, abs=0.01)
    assert torch.equal(seen[1], x.flatten(1))


@pytest.mark.parametrize(("model", "contiguous"), [(MLP(12, [4], 2), True), (nn.Conv2d(3, 2, 2), False)])
def test_images_are_laid_out_for_convolutions_where_there_are_any(model, contiguous):
    images = np.arange(24, dtype=np.float32).reshape(2, 3, 2, 2)
    x = prepare(images, torch.device("cpu"), model)
    assert x.is_contiguous() == contiguous and (x.numpy() == images).all()


def test_flip_averaging_sees_an_image_and_its_mirror_image_alike():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 10))
    x = torch.randn(4, 3, 8, 8)
    averaged = FlipAverage(net)
    torch.testing.assert_close(averaged(x), averaged(x.flip(3)))
    torch.testing.assert_close(averaged(x), (net(x) + net(x.flip(3))) / 2)
    assert not torch.allclose(averaged(x), net(x))


def test_training_accuracy_under_mixup_counts_both_labels(standin):
    """Of images that are half one and half another, a network that names the first is half right."""
    data = get_cifar10(standin, one_hot=False)
    config = TorchFlags(mixup=0.5, batch_size=20, learning_rate=1e-9)
    trainer = Trainer(nn.Sequential(nn.Flatten(), nn.Linear(3072, 10)), [torch.nn.Parameter(torch.zeros(1))], data, config,
                      torch.device("cpu"), 1)
    images, labels = data.train.next_batch(20)
    torch.manual_seed(3)
    _, correct = trainer.step(images, labels)
    torch.manual_seed(3)
    x, targets = augmented(torch.from_numpy(images), torch.from_numpy(labels), config)
    predicted = trainer.model(x).argmax(1)
    assert correct == pytest.approx(sum(share * float((predicted == label).float().mean()) for label, share in targets))
    assert len(targets) == 2 and 0 < targets[0][1] < 1
