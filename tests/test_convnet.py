"""The ConvNet of question 4a: the table's architecture, its blocks, its evaluation."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from convnet_pytorch import ConvNet, PreActBlock
from imagefiles.dataset import DataSet
from training.trainer import evaluate

pytestmark = pytest.mark.q4a

TABLE = [  # name, kernel, stride, padding, channels in, channels out; as in the assignment's Figure 5
    ("conv0", 3, 1, 1, 3, 64), ("PreAct1", 3, 1, 1, 64, 64), ("conv1", 1, 1, 0, 64, 128), ("maxpool1", 3, 2, 1, 128, 128),
    ("PreAct2_a", 3, 1, 1, 128, 128), ("PreAct2_b", 3, 1, 1, 128, 128), ("conv2", 1, 1, 0, 128, 256),
    ("maxpool2", 3, 2, 1, 256, 256), ("PreAct3_a", 3, 1, 1, 256, 256), ("PreAct3_b", 3, 1, 1, 256, 256),
    ("conv3", 1, 1, 0, 256, 512), ("maxpool3", 3, 2, 1, 512, 512), ("PreAct4_a", 3, 1, 1, 512, 512),
    ("PreAct4_b", 3, 1, 1, 512, 512), ("maxpool4", 3, 2, 1, 512, 512), ("PreAct5_a", 3, 1, 1, 512, 512),
    ("PreAct5_b", 3, 1, 1, 512, 512), ("maxpool5", 3, 2, 1, 512, 512),
]


def test_table():
    net = ConvNet(3, 10)
    rows = list(net.features)[:len(TABLE)]
    for module, (name, kernel, stride, padding, n_in, n_out) in zip(rows, TABLE, strict=True):
        if name.startswith("maxpool"):
            assert isinstance(module, nn.MaxPool2d), name
            assert (module.kernel_size, module.stride, module.padding) == (kernel, stride, padding), name
            continue
        assert isinstance(module, PreActBlock if name.startswith("PreAct") else nn.Conv2d), name
        conv = module.conv if isinstance(module, PreActBlock) else module
        assert (conv.kernel_size, conv.stride, conv.padding) == ((kernel,) * 2, (stride,) * 2, (padding,) * 2), name
        assert (conv.in_channels, conv.out_channels) == (n_in, n_out), name
    assert [type(m) for m in list(net.features)[len(TABLE):]] == [nn.BatchNorm2d, nn.ReLU]
    assert (net.classifier.in_features, net.classifier.out_features) == (512, 10)


def test_parameters():
    assert sum(p.numel() for p in ConvNet(3, 10).parameters()) == 11_138_122
    assert ConvNet(1, 7)(torch.zeros(2, 1, 32, 32)).shape == (2, 7)


def test_default_initialisation():
    torch.manual_seed(3)
    net = ConvNet(3, 10)
    torch.manual_seed(3)
    torch.testing.assert_close(net.features[0].weight, nn.Conv2d(3, 64, 3, padding=1).weight)


def test_block_is_input_plus_conv_relu_norm():
    torch.manual_seed(0)
    block = PreActBlock(4).double()
    x = torch.randn(3, 4, 5, 5, dtype=torch.float64)
    kept = x.clone()
    normed = F.batch_norm(x, None, None, block.norm.weight, block.norm.bias, training=True)
    expected = x + F.conv2d(normed.relu(), block.conv.weight, block.conv.bias, padding=1)
    torch.testing.assert_close(block(x), expected)
    torch.testing.assert_close(x, kept)  # the in-place ReLU is on the block's own tensor


def test_evaluation_counts_every_image_once_in_eval_mode():
    torch.manual_seed(0)
    net = ConvNet(3, 10)
    with torch.no_grad():  # move the running averages away from a batch's own statistics
        net(torch.randn(8, 3, 32, 32) * 3)
    before = {k: v.clone() for k, v in net.state_dict().items()}
    images, labels = torch.randn(10, 3, 32, 32), torch.randint(0, 10, (10,))
    loss, correct = evaluate(net, DataSet(images.numpy(), labels.numpy()), torch.device("cpu"), batch_size=4)
    assert net.training  # put back
    for key, value in net.state_dict().items():
        torch.testing.assert_close(value, before[key])  # evaluation leaves the running averages alone
    net.eval()
    with torch.no_grad():
        logits = net(images)
    assert abs(loss - float(F.cross_entropy(logits, labels))) < 1e-5
    assert correct == float((logits.argmax(1) == labels).double().mean())


@pytest.mark.slow
def test_ladder():
    """Initial loss near ln 10; 50 images overfit to 100 %."""
    torch.manual_seed(0)
    net = ConvNet(3, 10).to(memory_format=torch.channels_last)
    x, y = torch.randn(50, 3, 32, 32).contiguous(memory_format=torch.channels_last), torch.arange(50) % 10
    assert abs(float(F.cross_entropy(net(x).detach(), y)) - math.log(10)) < 0.5
    optimizer = torch.optim.Adam(net.parameters(), 1e-3)
    for _ in range(25):
        optimizer.zero_grad()
        logits = net(x)
        F.cross_entropy(logits, y).backward()
        optimizer.step()
        if bool((logits.argmax(1) == y).all()):
            return
    pytest.fail(f"only {float((logits.argmax(1) == y).float().mean()):.0%} of 50 images learned in 25 steps")
