"""The PyTorch MLP (question 2.1) against the NumPy one and against torch's own layers."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import mlp_numpy
import train_mlp_pytorch
from mlp_pytorch import ACTIVATIONS, MLP, NORMALIZATIONS
from modules import CrossEntropyModule, LinearModule
from training.trainer import prepare

pytestmark = pytest.mark.q2_1


def twins(n_hidden, activation, seed=0):
    """A NumPy MLP and a PyTorch MLP in float64 with the same weights."""
    ours = mlp_numpy.MLP(12, n_hidden, 5, activation=activation, weight_std=0.5, rng=np.random.default_rng(seed),
                         dtype=np.float64)
    theirs = MLP(12, n_hidden, 5, activation=activation).double()
    pairs = list(zip([m for m in ours.layers if isinstance(m, LinearModule)],
                     [m for m in theirs.layers if isinstance(m, nn.Linear)], strict=True))
    with torch.no_grad():
        for mine, other in pairs:
            other.weight.copy_(torch.from_numpy(mine.params["weight"]))
            other.bias.copy_(torch.from_numpy(mine.params["bias"]).flatten())
    return ours, theirs, pairs


@pytest.mark.q1_2
@pytest.mark.parametrize("n_hidden", [[], [7], [9, 6, 4]])
@pytest.mark.parametrize("activation", sorted({"elu", "relu", "tanh", "sigmoid"} | (mlp_numpy.ACTIVATIONS.keys() & ACTIVATIONS)))
def test_numpy_and_pytorch_agree_and_stay_together(n_hidden, activation):
    """Same weights: loss and every gradient equal to 1e-6, through 20 steps of gradient descent."""
    ours, theirs, pairs = twins(n_hidden, activation)
    rng = np.random.default_rng(1)
    optimizer = torch.optim.SGD(theirs.parameters(), lr=0.1)
    loss_module = CrossEntropyModule()
    for _ in range(20):
        x, labels = rng.normal(size=(16, 12)), rng.integers(0, 5, 16)
        y = np.eye(5)[labels]
        probabilities = ours.forward(x)
        loss = loss_module.forward(probabilities, y)
        ours.backward(loss_module.backward(probabilities, y))
        optimizer.zero_grad()
        expected = F.cross_entropy(theirs(torch.from_numpy(x)), torch.from_numpy(labels))
        expected.backward()
        assert abs(float(loss) - expected.item()) < 1e-6
        for mine, other in pairs:
            np.testing.assert_allclose(mine.grads["weight"], other.weight.grad.numpy(), atol=1e-6)
            np.testing.assert_allclose(mine.grads["bias"].ravel(), other.bias.grad.numpy(), atol=1e-6)
            for key in mine.params:
                mine.params[key] -= 0.1 * mine.grads[key]
        optimizer.step()
    for mine, other in pairs:
        np.testing.assert_allclose(mine.params["weight"], other.weight.detach().numpy(), atol=1e-6)


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("n_hidden", [[], [8], [8, 6, 4]])
def test_layers(normalization, activation, n_hidden):
    model = MLP(12, n_hidden, 5, activation, normalization, dropout=0.5)
    logits = model(torch.randn(6, 3, 2, 2))
    assert logits.shape == (6, 5)
    linear = [m for m in model.modules() if isinstance(m, nn.Linear)]
    assert [(m.in_features, m.out_features) for m in linear] == list(zip([12, *n_hidden], [*n_hidden, 5], strict=True))
    assert sum(isinstance(m, nn.Dropout) for m in model.modules()) == len(n_hidden)
    logits.sum().backward()
    assert all(p.grad is not None for p in model.parameters())


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


def test_normalization_before_every_linear_layer():
    model = MLP(12, [7, 6], 5, "relu", "batch_torch", dropout=0.5, norm_before="linear")
    assert [type(layer).__name__ for layer in model.layers] == [
        *["BatchNorm1d", "Linear", "ReLU", "Dropout"] * 2, "BatchNorm1d", "Linear"]
    assert [layer.num_features for layer in model.layers if hasattr(layer, "num_features")] == [12, 7, 6]


@pytest.mark.parametrize(("ours", "torchs"), [("layer", "layer_torch"), ("layer_autograd", "layer_torch"), ("batch", "batch_torch")])
def test_our_normalization_is_torchs(ours, torchs):
    """Two MLPs with the same weights, our normalization in one and torch's in the other, while training."""
    torch.manual_seed(0)
    model, reference = MLP(12, [8, 6], 5, "elu", ours).double(), MLP(12, [8, 6], 5, "elu", torchs).double()
    with torch.no_grad():
        for mine, other in zip(model.parameters(), reference.parameters(), strict=True):
            mine.copy_(torch.randn_like(mine))
            other.copy_(mine)
    x, y = torch.randn(16, 12, dtype=torch.float64), torch.randint(0, 5, (16,))
    losses = [F.cross_entropy(m(x), y) for m in (model, reference)]
    for loss in losses:
        loss.backward()
    torch.testing.assert_close(losses[0], losses[1])
    for mine, other in zip(model.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, other.grad, rtol=1e-7, atol=1e-9)


def test_initial_weights():
    torch.manual_seed(0)
    model = MLP(3072, [100], 10, weight_std=1e-4)
    linear = [m for m in model.modules() if isinstance(m, nn.Linear)]
    assert abs(float(linear[0].weight.std()) - 1e-4) < 1e-6
    assert all(float(m.bias.abs().max()) == 0 for m in linear)
    default = MLP(3072, [100], 10)
    assert float(default.layers[0].weight.abs().max()) <= 1 / math.sqrt(3072)


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_ladder(normalization):
    """Initial loss near ln 10; 50 images overfit to 100 %."""
    torch.manual_seed(0)
    model = MLP(48, [64], 10, "elu", normalization, weight_std=1e-4 if normalization == "none" else 0.0)
    x, y = torch.randn(50, 48), torch.arange(50) % 10
    if normalization == "none":
        assert abs(float(F.cross_entropy(model(x), y)) - math.log(10)) < 1e-3
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    for _ in range(200):
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
    assert float((model(x).argmax(1) == y).float().mean()) == 1


@pytest.mark.parametrize(("model", "contiguous"), [(MLP(12, [4], 2), True), (nn.Conv2d(3, 2, 2), False)])
def test_images_are_laid_out_for_convolutions_where_there_are_any(model, contiguous):
    images = np.arange(24, dtype=np.float32).reshape(2, 3, 2, 2)
    x = prepare(images, torch.device("cpu"), model)
    assert x.is_contiguous() == contiguous and (x.numpy() == images).all()
