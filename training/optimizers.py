"""Update rules and learning-rate schedules, by the names that --optimizer and --lr_schedule know."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from training.muon import Muon

OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "sgd": lambda params, lr, decay, momentum: torch.optim.SGD(params, lr, momentum=momentum, weight_decay=decay),
    "nesterov": lambda params, lr, decay, momentum: torch.optim.SGD(
        params, lr, momentum=momentum, weight_decay=decay, nesterov=True),
    "adam": lambda params, lr, decay, momentum: torch.optim.Adam(params, lr, weight_decay=decay),
    "adamw": lambda params, lr, decay, momentum: torch.optim.AdamW(params, lr, weight_decay=decay),
    "rmsprop": lambda params, lr, decay, momentum: torch.optim.RMSprop(
        params, lr, weight_decay=decay, momentum=momentum),
    "muon": lambda params, lr, decay, momentum: Muon(params, lr, momentum, decay),
}
WITH_MOMENTUM = ("sgd", "nesterov", "rmsprop", "muon")
SCHEDULES: dict[str, Callable[[torch.optim.Optimizer, int], Any]] = {
    "constant": lambda optimizer, steps: torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1.0),
    "cosine": lambda optimizer, steps: torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps),
    # cycle_momentum off: the scheduler then changes the learning rates and nothing else
    "one_cycle": lambda optimizer, steps: torch.optim.lr_scheduler.OneCycleLR(
        optimizer, [group["lr"] for group in optimizer.param_groups], total_steps=steps, cycle_momentum=False),
}
