"""How the device computes: in which precision, and whether in the same way twice."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

import torch
from torch import nn

from training.console import notice

FEWEST_IMAGES = 256  # of a batch on a GPU, for bfloat16 to pay


def multiplies_bf16(device: torch.device) -> bool:
    """Whether the device has instructions for bfloat16's products: AMX or AVX512-BF16; from Ampere on a GPU."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    # The second is implied by AMX; PyTorch has no public name for it, so that it may be gone one day.
    return device.type == "cpu" and getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)()


def chosen_precision(asked: str, device: torch.device, batch_size: int, model: nn.Module, recorded: bool) -> str:
    """fp32 or bf16 for what was asked; for 'auto' that in which such a model was measured to train faster.

    For the ConvNet that is bf16 on processors with AMX or AVX512-BF16. On a GPU it is bf16 for 512 images a batch but
    not for 32, where the CPU's calls take longer than the products that they start; FEWEST_IMAGES lies between the
    two. Where they are `recorded` as a CUDA graph it is bf16, too: that is estimated from steps in bf16 and a whole run
    in fp32, and not yet measured by turns.
    With depthwise convolutions, as in EfficientNet, bf16 was slower; without any convolution nothing was measured.
    """
    if asked != "auto":
        return asked
    groups = {module.groups for module in model.modules() if isinstance(module, nn.Conv2d)}
    pays = groups == {1} and (device.type == "cpu" or batch_size >= FEWEST_IMAGES or recorded)
    return "bf16" if pays and multiplies_bf16(device) else "fp32"


def note_slow_bf16(device: torch.device, precision: str) -> None:
    """A processor that cannot multiply bfloat16 emulates it, many times slower than float32: say so."""
    if precision == "bf16" and device.type == "cpu" and not multiplies_bf16(device):
        notice("this processor does not multiply bfloat16; --precision fp32 is far faster here.")


@contextlib.contextmanager
def numerics(tf32: bool, deterministic: bool) -> Iterator[None]:
    """Sets how PyTorch computes on a GPU, and sets it back at the end.

    tf32: products and convolutions of float32 round their inputs to 10 bits behind the point. deterministic: operators
    that add up in another order each time are replaced where PyTorch has another; it warns of those where it has none.
    """
    cudnn = torch.backends.cudnn
    before = torch.get_float32_matmul_precision(), cudnn.allow_tf32
    try:
        torch.set_float32_matmul_precision("high" if tf32 else "highest")
        cudnn.allow_tf32 = tf32
        with deterministic_operators() if deterministic else contextlib.nullcontext():
            yield
    finally:
        torch.set_float32_matmul_precision(before[0])
        cudnn.allow_tf32 = before[1]


@contextlib.contextmanager
def deterministic_operators() -> Iterator[None]:
    """PyTorch's, as far as it has them. Only where they are asked for: the call imports PyTorch's compiler."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when the first product starts
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)
