"""What the PyTorch scripts put around a network: dropout of the input, the layout of images, averages over flips."""

import numpy as np
import pytest
import torch
from torch import nn

import train_mlp_pytorch
from mlp_pytorch import MLP
from training.trainer import FlipAverage, prepare

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
