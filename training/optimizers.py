"""Update rules and learning-rate schedules, by the names that --optimizer and --lr_schedule know."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from training.muon import Muon

# fused: True is one kernel for a whole update, on a GPU; None leaves the choice, and the rounding, to PyTorch.
OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "sgd": lambda params, lr, decay, momentum, fused: torch.optim.SGD(
        params, lr, momentum=momentum, weight_decay=decay, fused=fused),
    "nesterov": lambda params, lr, decay, momentum, fused: torch.optim.SGD(
        params, lr, momentum=momentum, weight_decay=decay, nesterov=True, fused=fused),
    "adam": lambda params, lr, decay, momentum, fused: torch.optim.Adam(params, lr, weight_decay=decay, fused=fused),
    "adamw": lambda params, lr, decay, momentum, fused: torch.optim.AdamW(params, lr, weight_decay=decay, fused=fused),
    "rmsprop": lambda params, lr, decay, momentum, fused: torch.optim.RMSprop(
        params, lr, weight_decay=decay, momentum=momentum),
    "muon": lambda params, lr, decay, momentum, fused: Muon(params, lr, momentum, decay),
}
WITH_MOMENTUM = ("sgd", "nesterov", "rmsprop", "muon")
SCHEDULES: dict[str, Callable[[torch.optim.Optimizer, int], Any]] = {
    "constant": lambda optimizer, steps: torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1.0),
    "cosine": lambda optimizer, steps: torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps),
    # cycle_momentum off: the scheduler then changes the learning rates and nothing else
    "one_cycle": lambda optimizer, steps: torch.optim.lr_scheduler.OneCycleLR(
        optimizer, [group["lr"] for group in optimizer.param_groups], total_steps=steps, cycle_momentum=False),
    # the same two legs, straight
    "triangle": lambda optimizer, steps: torch.optim.lr_scheduler.OneCycleLR(
        optimizer, [group["lr"] for group in optimizer.param_groups], total_steps=steps, pct_start=0.2,
        anneal_strategy="linear", cycle_momentum=False),
}
