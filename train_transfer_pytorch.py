"""Transfer learning (question 4b): an ImageNet classifier, its head replaced, trained on CIFAR-10.

    python train_transfer_pytorch.py                                # EfficientNet-Lite0, fine-tuned at 96 pixels
    python train_transfer_pytorch.py --freeze backbone --batch_size 256 --max_steps 2000    # a linear probe
    python train_transfer_pytorch.py --recipe efficientnet-128      # larger images, the first stages frozen: the best
    python train_transfer_pytorch.py --model resnet18 --unfreeze_from layer3 --head_lr_factor 10
    python train_transfer_pytorch.py --model convnext_tiny --weights convnext_tiny-983f1562.pth
    python train_transfer_pytorch.py --resume results/train_transfer_pytorch/<time>

--model is EfficientNet-Lite0, whose weights are a pip package, or any classifier of torchvision, whose published
ImageNet weights torchvision downloads. Images are resized a batch at a time, on the device. With --freeze backbone what
the head sees never changes: it is computed once, kept in memory, and the head trains on that in seconds.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from cifar10_utils import DataSet, Splits
from networks.transfer import LITE0, TransferNet, build
from training.console import with_progress
from training.distributed import rank
from training.flags import flag, non_negative_int, path, positive_float, redefined
from training.images import Images, layout_of
from training.run import accuracy  # noqa: F401 (part of the script's interface)
from training.script import run_script
from training.trainer import TorchFlags, select_device, train_classifier

FEATURE_BATCH = 250
PROBE_BATCH, PROBE_LEARNING_RATE = 256, 1e-3
SCRIPT = "train_transfer_pytorch"
SPLITS = ("train", "validation", "test")


@dataclass
class Config(TorchFlags):
    learning_rate: float = redefined(TorchFlags, "learning_rate", 3e-4)
    max_steps: int = redefined(TorchFlags, "max_steps", 1600)
    batch_size: int = redefined(TorchFlags, "batch_size", 64)
    eval_freq: int = redefined(TorchFlags, "eval_freq", 400)
    optimizer: str = redefined(TorchFlags, "optimizer", "adamw")
    weight_decay: float = redefined(TorchFlags, "weight_decay", 0.01)
    precision: str = redefined(TorchFlags, "precision", "auto")
    lr_schedule: str = redefined(TorchFlags, "lr_schedule", "one_cycle")
    flip: str = redefined(TorchFlags, "flip", "", "{help}; '' is on, with --freeze backbone off", needs="--freeze none")
    shift: int = redefined(TorchFlags, "shift", 0, needs="--freeze none")
    cutout: int = redefined(TorchFlags, "cutout", 0, needs="--freeze none")
    flip_average: str = redefined(TorchFlags, "flip_average", "off", needs="--freeze none")
    model: str = flag(LITE0, f"{LITE0}, or a classifier of torchvision.models such as resnet18", group="network")
    weights: str = flag("", "file of the model's ImageNet weights; '' for those published", type=path,
                        resumable=True, group="network")
    image_size: int = flag(96, "pixels a side to which images are resized; 0 for the size the weights were made for",
                           type=non_negative_int, group="network")
    freeze: str = flag("none", "what is not trained; with backbone only the new head is, on features that are computed "
                               "once", choices=["none", "backbone"], group="network")
    unfreeze_from: str = flag("", "train the model from this part on, such as layer3 or _blocks.10; '' for all of it",
                              group="network", needs="--freeze none")
    head_lr_factor: float = flag(1.0, "learning rate of the head as a multiple of the rest's", type=positive_float,
                                 group="optimization", needs="--freeze none")
    linear_probe: int = flag(5, "first train the head alone for this many epochs on the untrained body's features, "
                                "computed once (--freeze backbone does nothing else)", type=non_negative_int,
                             group="optimization", needs="--freeze none")

    def __post_init__(self) -> None:
        self.flip = self.flip or self.default_of("flip")
        super().__post_init__()

    def default_of(self, name: str) -> Any:
        if name == "flip":
            return "off" if self.freeze == "backbone" else "on"
        return super().default_of(name)


def empty_features(split: DataSet, n_features: int) -> DataSet:
    """Room for the features of `split`, of shape (N, n_features, 1, 1), with its labels and its order."""
    features = DataSet(np.zeros((split.num_examples, n_features, 1, 1), np.float32), split.labels)
    features.load_state(split.state())
    return features


@torch.inference_mode()
def compute_features(net: TransferNet, split: DataSet, features: DataSet, device: torch.device) -> None:
    """Fill `features` with what the head of `net`, in evaluation mode, sees of each image of `split`."""
    net.eval()
    start = 0
    batches = Images(split, device, layout_of(net)).batches(FEATURE_BATCH)
    for x, _ in with_progress(batches, split.num_examples, "computing features", silent=rank() > 0):
        features.pixels[start:start + len(x), :, 0, 0] = net.features(x).float().cpu().numpy()
        start += len(x)


def linear_probe(net: TransferNet, split: DataSet, epochs: int, device: torch.device) -> None:
    """Train the head of `net` alone for `epochs` on the features of `split`, which are computed once."""
    features = empty_features(split, net.head.in_features)
    compute_features(net, split, features, device)
    optimizer = torch.optim.AdamW(net.head.parameters(), PROBE_LEARNING_RATE)
    images, batch_size = Images(features, device), min(PROBE_BATCH, split.num_examples)
    for _ in range(epochs * split.num_examples // batch_size):
        x, labels = images.at(features.next_indices(batch_size))
        loss = F.cross_entropy(net.head(x.flatten(1)), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def train_head(net: TransferNet, data: Splits, config: Config, device: torch.device) -> dict[str, Any]:
    """Train the head alone, on features that are computed once for all splits."""
    net.to(device).to(memory_format=torch.channels_last)
    features = {name: empty_features(data[name], net.head.in_features) for name in SPLITS}

    def fill(model: nn.Module, resumed: bool) -> None:
        for name in SPLITS:
            compute_features(net, data[name], features[name], device)

    cached = Splits(**features, mean_image=data.mean_image, state=data.state, name=data.name,
                    class_names=data.class_names, digest=data.digest)
    return train_classifier(lambda: nn.Sequential(nn.Flatten(), net.head), cached, config, SCRIPT, warm_up=fill)


def fine_tune(net: TransferNet, data: Splits, config: Config, device: torch.device) -> dict[str, Any]:
    """Train the net from `config.unfreeze_from` on, after a linear probe."""
    if config.unfreeze_from:
        net.freeze_before(config.unfreeze_from)

    def probe(model: nn.Module, resumed: bool) -> None:
        if config.linear_probe and not resumed:
            linear_probe(net, data.train, config.linear_probe, device)

    return train_classifier(lambda: net, data, config, SCRIPT, warm_up=probe, parameter_groups=lambda _: (
        net.parameter_groups(config.learning_rate, config.head_lr_factor)))


def train(config: Config) -> dict[str, Any]:
    """Train as `config` says and return the run's summary."""
    device = select_device(config.device)
    torch.manual_seed(config.seed)
    data = config.load_data()
    net = build(config.model, data.mean_image, config.image_size, config.weights, len(data.class_names))
    return (train_head if config.freeze == "backbone" else fine_tune)(net, data, config, device)


if __name__ == "__main__":
    sys.exit(run_script(Config, train, __doc__))
