"""What the PyTorch scripts share: device, precision, optimizer, schedule, checkpoints, and the training loop."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from augment_pytorch import flip, mix, shift
from checkpoints import CheckpointFormat, atomic_write, damaged, missing, whole
from distributed_pytorch import agree_on_buffers, averaged, join, processes, rank, run_of, share, synchronised, total
from flags import TrainingFlags, UserError, flag, fraction, non_negative_float, non_negative_int
from muon_pytorch import Muon
from training import accuracy

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
SCHEDULES: dict[str, Callable[[torch.optim.Optimizer, int], Any]] = {
    "constant": lambda optimizer, steps: torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1.0),
    "cosine": lambda optimizer, steps: torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps),
    # cycle_momentum off: the scheduler then changes the learning rates and nothing else
    "one_cycle": lambda optimizer, steps: torch.optim.lr_scheduler.OneCycleLR(
        optimizer, [group["lr"] for group in optimizer.param_groups], total_steps=steps, cycle_momentum=False),
}


@dataclass
class TorchFlags(TrainingFlags):
    """Flags of every PyTorch script, behind those that all scripts have."""

    optimizer: str = flag("sgd", "update rule", choices=list(OPTIMIZERS))
    momentum: float = flag(0.0, "momentum of sgd, nesterov, rmsprop and muon", type=fraction)
    weight_decay: float = flag(0.0, "L2 penalty (adamw: decoupled weight decay; muon: of all but "
                                    "its matrices)", type=non_negative_float)
    lr_schedule: str = flag("constant", "learning rate over the run; one_cycle and cosine end at about 0",
                            choices=list(SCHEDULES))
    label_smoothing: float = flag(0.0, "share of each training target that is spread over all classes", type=fraction)
    flip: str = flag("off", "mirror every other training image, by chance", choices=["on", "off"])
    shift: int = flag(0, "move each training image by up to so many pixels, by chance", type=non_negative_int)
    mixup: float = flag(0.0, "mix training images in pairs, with a weight from Beta(mixup, mixup), from 0.01 up; 0 for "
                             "none", type=non_negative_float)
    ema_decay: float = flag(0.0, "evaluate, and keep, a moving average of the weights that keeps so much of itself "
                                 "each step, such as 0.999; 0 for the weights themselves", type=fraction)
    flip_average: str = flag("off", "at the end, read the test split also with the logits of each image and its mirror "
                                    "image averaged", choices=["on", "off"])
    device: str = flag("auto", "where to compute; auto takes a GPU when there is one",
                       choices=["auto", "cpu", "cuda", "mps"], resumable=True)
    precision: str = flag("fp32", "bf16 computes matrix products and convolutions in bfloat16",
                          choices=["fp32", "bf16"])

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.optimizer in ("nesterov", "muon") and not self.momentum:
            raise UserError(f"--momentum: {self.optimizer} needs one above 0, such as --momentum 0.9")
        if 0 < self.mixup < 0.01:  # draws of so narrow a Beta distribution are not to be had in float32
            raise UserError(f"--mixup: {self.mixup} is below 0.01; 0 mixes nothing")


def select_device(name: str) -> torch.device:
    """The device called `name`; 'auto' is CUDA, else MPS, else the CPU. UserError where it is not there."""
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        name = next(device for device, present in there.items() if present)
    if not there[name]:
        raise UserError(f"--device: {name} is not available here; use --device auto or --device cpu")
    return torch.device(name)


def note_slow_bf16(device: torch.device, precision: str) -> None:
    """A processor that cannot multiply bfloat16 emulates it, many times slower than float32: say so."""
    multiplies = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True)  # implied by AMX
    if precision == "bf16" and device.type == "cpu" and not multiplies():
        print("NOTICE: this processor does not multiply bfloat16; --precision fp32 is far faster here.")


def _save_torch(path: Path, checkpoint: dict[str, Any]) -> None:
    with atomic_write(path) as file:
        torch.save(checkpoint, file)


def load_torch(path: Path) -> dict[str, Any]:
    """A .pt file's content on the CPU; only tensors and plain Python values are admitted."""
    if not path.exists():
        raise missing(path)
    try:
        return whole(path, torch.load(path, map_location="cpu", weights_only=True))
    except Exception:  # torch has many ways to stumble over foreign bytes
        raise damaged(path) from None


PT = CheckpointFormat(".pt", _save_torch, load_torch)


def prepare(images: np.ndarray, device: torch.device, model: nn.Module) -> torch.Tensor:
    """Images of shape (B, C, H, W) as a tensor; channels_last for a model with convolutions, which run faster on it."""
    convolves = any(parameter.ndim == 4 for parameter in model.parameters())
    layout = torch.channels_last if convolves else torch.preserve_format  # an MLP would lay them out anew
    return torch.from_numpy(images).to(device, memory_format=layout, non_blocking=True)


def evaluate(model: nn.Module, split: Any, device: torch.device, precision: str = "fp32",
             batch_size: int = 500) -> tuple[float, float]:
    """Mean cross-entropy and accuracy of `model` over every sample of `split` once, in evaluation mode."""
    was_training = model.training
    model.eval()
    agree_on_buffers(model)
    batch_size -= split.num_examples % batch_size == 1  # our BatchNorm, which has batches alone, takes no single image
    loss_sum = correct_sum = 0.0
    with torch.inference_mode():
        for number, (images, labels) in enumerate(split.batches(batch_size)):
            if number % processes() != rank():
                continue
            targets = torch.from_numpy(labels).to(device)
            with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
                logits = model(prepare(images, device, model))
            loss_sum += float(F.cross_entropy(logits.float(), targets, reduction="sum"))
            correct_sum += accuracy(logits, targets) * len(labels)
    model.train(was_training)
    loss_sum, correct_sum = total(device, loss_sum, correct_sum)
    return loss_sum / split.num_examples, correct_sum / split.num_examples


class FlipAverage(nn.Module):
    """The mean of the logits that `model` gives an image and its mirror image."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        return (self.model(x) + self.model(x.flip(3))) / 2


def augmented(x: Tensor, targets: Tensor, config: TorchFlags) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """The batch as the flags change it, and what gives the loss of its logits."""
    if config.flip == "on":
        x = flip(x)
    if config.shift:
        x = shift(x, config.shift)
    if not config.mixup:
        return x, lambda logits: F.cross_entropy(logits, targets, label_smoothing=config.label_smoothing)
    x, partner, weight = mix(x, config.mixup)

    def loss_of(logits: Tensor) -> Tensor:
        one, other = (F.cross_entropy(logits, labels, label_smoothing=config.label_smoothing)
                      for labels in (targets, targets[partner]))
        return weight * one + (1 - weight) * other

    return x, loss_of


def train_classifier(build_model: Callable[[], nn.Module], data: Any, config: TorchFlags, script: str,
                     parameter_groups: Callable[[nn.Module], list[Any]] | None = None,
                     warm_up: Callable[[nn.Module, bool], None] | None = None,
                     watch: Callable[[int, float], None] | None = None) -> dict[str, Any]:
    """Train what `build_model()` makes on `data` (integer labels) as `config` says; returns the run's summary.

    parameter_groups(model): what the optimizer gets, where parts have learning rates of their own.
    warm_up(model, resumed): done before the first step, once the run's folder is there. watch: as in `Run`.
    """
    device = join(select_device(config.device), config.batch_size)
    note_slow_bf16(device, config.precision)
    torch.manual_seed(config.seed)
    model = synchronised(build_model(), device).to(device).to(memory_format=torch.channels_last)
    parameters = parameter_groups(model) if parameter_groups else [p for p in model.parameters() if p.requires_grad]

    with run_of(config, script, data, PT, watch) as run:
        optimizer = OPTIMIZERS[config.optimizer](parameters, config.learning_rate, config.weight_decay,
                                                 config.momentum)
        schedule = SCHEDULES[config.lr_schedule](optimizer, run.last_step)
        stateful: dict[str, Any] = {"model": model, "optimizer": optimizer, "schedule": schedule}
        if config.ema_decay:
            stateful["average"] = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(config.ema_decay),
                                                use_buffers=True)
        evaluated = stateful.get("average", model)

        def snapshot() -> dict[str, Any]:
            random = {"cpu": torch.get_rng_state(),
                      **({"cuda": torch.cuda.get_rng_state()} if device.type == "cuda" else {})}
            return {"batches": data.train.state(), "random": random,
                    **{name: part.state_dict() for name, part in stateful.items()}}

        def load(state: dict[str, Any]) -> None:
            planned = state["schedule"].get("total_steps", state["schedule"].get("T_max", run.last_step))
            if planned != run.last_step:
                raise UserError(f"--max_steps: {config.lr_schedule} was laid out for {planned} steps, not "
                                f"{run.last_step}; leave the flag out, or start a new run")
            if (at := state["schedule"]["last_epoch"]) != run.step:
                raise ValueError(f"its learning rate is that of step {at}, not of step {run.step}")
            for name, part in stateful.items():
                part.load_state_dict(state[name])
            data.train.load_state(state["batches"])
            torch.set_rng_state(state["random"]["cpu"])
            if device.type == "cuda" and "cuda" in state["random"]:
                torch.cuda.set_rng_state(state["random"]["cuda"])
            if rank():  # what was saved is the first process's
                torch.manual_seed(config.seed + run.step + rank())

        run.parameters = sum(p.numel() for p in model.parameters())
        if warm_up:
            warm_up(model, run.state is not None)
        run.restore(load)
        model.train()
        trained = averaged(model, device)
        if rank() and run.state is None:
            torch.manual_seed(config.seed + rank())  # dropout and augmentation are each process's own
        for _ in run.steps(snapshot, lambda split: evaluate(evaluated, data[split], device, config.precision)):
            images, labels = data.train.next_batch(config.batch_size)
            x, targets = prepare(share(images), device, model), torch.from_numpy(share(labels)).to(device)
            x, loss_of = augmented(x, targets, config)

            with torch.autocast(device.type, torch.bfloat16, enabled=config.precision == "bf16"):
                logits = trained(x)                      # (B, 10)
                loss = loss_of(logits.float())

            # before the update: a loss that is not finite goes no further
            part = len(targets) / config.batch_size      # 1, unless there are several processes
            mean_loss, correct = total(device, part * loss.item(), part * accuracy(logits, targets))
            run.record(mean_loss, correct, config.batch_size)
            optimizer.zero_grad()
            (part * processes() * loss).backward()
            optimizer.step()
            schedule.step()
            if config.ema_decay:
                evaluated.update_parameters(model)
        if config.flip_average == "on" and not watch:
            run.summary["test_accuracy_flip_averaged"] = evaluate(FlipAverage(evaluated), data.test, device,
                                                                  config.precision)[1]
    return run.summary
