"""Update rules and learning-rate schedules, by the names that --optimizer and --lr_schedule know."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch

from training.muon import Muon


def uncompiled(optimizer: type[torch.optim.Optimizer]) -> Callable[..., torch.optim.Optimizer]:
    """The same optimizer without the wrappers that PyTorch puts around methods for programs that compile the update.

    No script here does so, and the first wrapper that is called imports PyTorch's compiler, which takes a second.
    """
    plain = {name: inspect.unwrap(getattr(optimizer, name))
             for name in ("add_param_group", "zero_grad", "state_dict", "load_state_dict")}
    return type(optimizer.__name__, (optimizer,), {**plain, "step": torch.no_grad()(inspect.unwrap(optimizer.step))})


SGD, Adam, AdamW, RMSprop, PlainMuon = map(uncompiled, (
    torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW, torch.optim.RMSprop, Muon))

# fused: True is one kernel for a whole update, on a GPU; None leaves the choice, and the rounding, to PyTorch.
OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "sgd": lambda params, lr, decay, momentum, fused: SGD(
        params, lr, momentum=momentum, weight_decay=decay, fused=fused),
    "nesterov": lambda params, lr, decay, momentum, fused: SGD(
        params, lr, momentum=momentum, weight_decay=decay, nesterov=True, fused=fused),
    "adam": lambda params, lr, decay, momentum, fused: Adam(params, lr, weight_decay=decay, fused=fused),
    "adamw": lambda params, lr, decay, momentum, fused: AdamW(params, lr, weight_decay=decay, fused=fused),
    "rmsprop": lambda params, lr, decay, momentum, fused: RMSprop(
        params, lr, weight_decay=decay, momentum=momentum),
    "muon": lambda params, lr, decay, momentum, fused: PlainMuon(params, lr, momentum, decay),
}
WITH_MOMENTUM = ("sgd", "nesterov", "rmsprop", "muon")
SCHEDULES: dict[str, Callable[[torch.optim.Optimizer, int], Any]] = {
    "constant": lambda optimizer, steps: torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1.0),
    "cosine": lambda optimizer, steps: torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps),
    # cycle_momentum off: the scheduler then changes the learning rates and nothing else
    "one_cycle": lambda optimizer, steps: torch.optim.lr_scheduler.OneCycleLR(
        optimizer, [group["lr"] for group in optimizer.param_groups], total_steps=steps, cycle_momentum=False),
    # the same two legs, straight; a fifth of 5 steps would be a first leg of length 0, by which PyTorch divides
    "triangle": lambda optimizer, steps: torch.optim.lr_scheduler.OneCycleLR(
        optimizer, [group["lr"] for group in optimizer.param_groups], total_steps=steps,
        pct_start=0.2 if steps > 5 else 0.1, anneal_strategy="linear", cycle_momentum=False),
}
