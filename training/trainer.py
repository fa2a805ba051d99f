"""How the PyTorch scripts train: `train_classifier` is the loop, `Trainer` a step, an evaluation and a checkpoint."""

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

from imagefiles.dataset import DataSet, Splits
from training.augment import flip, mix, shift
from training.checkpoints import CheckpointFormat, atomic_write, damaged, missing, whole
from training.console import notice
from training.distributed import (
    agree_on_buffers,
    agree_on_signal,
    averaged,
    joined,
    seed_of,
    share,
    synchronised,
    total,
)
from training.flags import TrainingFlags, UserError, flag, fraction, non_negative_float, non_negative_int
from training.optimizers import OPTIMIZERS, SCHEDULES, WITH_MOMENTUM
from training.rendezvous import processes, rank, wait_for_all
from training.run import Watch, accuracy, start_run


@dataclass
class TorchFlags(TrainingFlags):
    """Flags of every PyTorch script, behind those that all scripts have."""

    optimizer: str = flag("sgd", "update rule", choices=list(OPTIMIZERS), group="optimization")
    momentum: float = flag(0.0, "momentum of the optimizer", type=fraction, group="optimization",
                           needs=f"--optimizer {'|'.join(WITH_MOMENTUM)}")
    weight_decay: float = flag(0.0, "L2 penalty (adamw: decoupled weight decay; muon: of all but "
                                    "its matrices)", type=non_negative_float, group="optimization")
    lr_schedule: str = flag("constant", "learning rate over the run; one_cycle and cosine end at about 0",
                            choices=list(SCHEDULES), group="optimization")
    label_smoothing: float = flag(0.0, "share of each training target that is spread over all classes",
                                  type=fraction, group="optimization")
    ema_decay: float = flag(0.0, "evaluate, and keep, a moving average of the weights that keeps so much of itself "
                                 "each step, such as 0.999; 0 for the weights themselves", type=fraction,
                            group="optimization")
    flip: str = flag("off", "mirror each training image left to right with probability 1/2", choices=["on", "off"],
                     group="images")
    shift: int = flag(0, "move each training image by up to so many pixels, randomly", type=non_negative_int,
                      group="images")
    mixup: float = flag(0.0, "mix training images in pairs, with a weight from Beta(mixup, mixup), from 0.01 up; 0 for "
                             "none", type=non_negative_float, group="images")
    flip_average: str = flag("off", "at the end, read the test split also with the logits of each image and its mirror "
                                    "image averaged", choices=["on", "off"], group="images")
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
        notice("this processor does not multiply bfloat16; --precision fp32 is far faster here.")


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
    layout = torch.channels_last if convolves else torch.preserve_format  # an MLP would copy them to another layout
    return torch.from_numpy(images).to(device, memory_format=layout, non_blocking=True)


def evaluate(model: nn.Module, split: DataSet, device: torch.device, precision: str = "fp32",
             batch_size: int = 500) -> tuple[float, float]:
    """Mean cross-entropy and accuracy of `model` over every sample of `split` once, in evaluation mode."""
    was_training = model.training
    model.eval()
    agree_on_buffers(model)
    batch_size -= split.num_examples % batch_size == 1  # our BatchNorm cannot take a single image
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
    wait_for_all()
    loss_sum, correct_sum = total(device, loss_sum, correct_sum)
    return loss_sum / split.num_examples, correct_sum / split.num_examples


class FlipAverage(nn.Module):
    """The mean of the logits that `model` gives an image and its mirror image."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        return (self.model(x) + self.model(x.flip(3))) / 2


Targets = list[tuple[Tensor, float]]  # labels of shape (B,) and the weight that they have, which add up to 1


def augmented(x: Tensor, labels: Tensor, config: TorchFlags) -> tuple[Tensor, Targets]:
    """The batch as the flags change it, and its targets: with mixup, those of both images of each pair."""
    if config.flip == "on":
        x = flip(x)
    if config.shift:
        x = shift(x, config.shift)
    if not config.mixup:
        return x, [(labels, 1.0)]
    x, partner, weight = mix(x, config.mixup)
    return x, [(labels, weight), (labels[partner], 1 - weight)]


class Trainer:
    """A model in training: its steps, its evaluations and what a checkpoint keeps of it.

    parameters: what the optimizer gets, a list of parameters or of groups. data: splits with integer labels.
    last_step: the step at which the schedule ends.
    """

    def __init__(self, model: nn.Module, parameters: list[Any], data: Splits, config: TorchFlags, device: torch.device,
                 last_step: int):
        self.model, self.data, self.config, self.device, self.last_step = model, data, config, device, last_step
        self.optimizer = OPTIMIZERS[config.optimizer](parameters, config.learning_rate, config.weight_decay,
                                                      config.momentum)
        self.schedule = SCHEDULES[config.lr_schedule](self.optimizer, last_step)
        self.average: Any = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(config.ema_decay),
                                          use_buffers=True) if config.ema_decay else None
        self.evaluated: nn.Module = self.average or model
        self.trained = model

    def start(self) -> None:
        """To be called once, when the weights are those that training starts from."""
        self.model.train()
        self.trained = averaged(self.model, self.device)

    def step(self, images: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
        """One update from images (B, C, H, W) and labels (B,). Returns the batch's mean loss and accuracy before it."""
        config = self.config
        if rank():  # dropout and augmentation are each process's own; the first continues the stream of the weights
            torch.manual_seed(seed_of(config.seed, rank(), self.schedule.last_epoch))
        x = prepare(share(images), self.device, self.model)
        x, targets = augmented(x, torch.from_numpy(share(labels)).to(self.device), config)

        with torch.autocast(self.device.type, torch.bfloat16, enabled=config.precision == "bf16"):
            logits = self.trained(x)                      # (B, classes)
            loss = sum((weight * F.cross_entropy(logits.float(), target, label_smoothing=config.label_smoothing)
                        for target, weight in targets), torch.zeros((), device=self.device))

        part = len(x) / config.batch_size                 # 1, unless there are several processes
        correct = sum(weight * accuracy(logits, target) for target, weight in targets)
        mean_loss, mean_correct = total(self.device, part * loss.item(), part * correct)

        self.optimizer.zero_grad()
        (part * processes() * loss).backward()
        self.optimizer.step()
        self.schedule.step()
        if self.average:
            self.average.update_parameters(self.model)
        return mean_loss, mean_correct

    def evaluate(self, split: str) -> tuple[float, float]:
        """Mean loss and accuracy over the split of this name, every sample once."""
        return evaluate(self.evaluated, self.data[split], self.device, self.config.precision)

    def flip_averaged_accuracy(self, split: str) -> float:
        """Accuracy of the mean of the logits of each image and its mirror image."""
        return evaluate(FlipAverage(self.evaluated), self.data[split], self.device, self.config.precision)[1]

    def _stateful(self) -> dict[str, Any]:
        parts = {"model": self.model, "optimizer": self.optimizer, "schedule": self.schedule}
        return parts | ({"average": self.average} if self.average else {})

    def state_dict(self) -> dict[str, Any]:
        """Weights, optimizer, schedule, order of the batches and random states."""
        random = {"cpu": torch.get_rng_state(),
                  **({"cuda": torch.cuda.get_rng_state()} if self.device.type == "cuda" else {})}
        return {"batches": self.data.train.state(), "random": random,
                **{name: part.state_dict() for name, part in self._stateful().items()}}

    def load_state_dict(self, state: dict[str, Any], step: int) -> None:
        """Continue where `state_dict` was taken, after `step` steps.

        Raises:
            UserError: the schedule was made for another number of steps.
            ValueError, KeyError, RuntimeError: the state of another model, or of another step.
        """
        planned = state["schedule"].get("total_steps", state["schedule"].get("T_max", self.last_step))
        if planned != self.last_step:
            raise UserError(f"--max_steps: {self.config.lr_schedule} was laid out for {planned} steps, not "
                            f"{self.last_step}; leave the flag out, or start a new run")
        if (at := state["schedule"]["last_epoch"]) != step:
            raise ValueError(f"its learning rate is that of step {at}, not of step {step}")
        for name, part in self._stateful().items():
            part.load_state_dict(state[name])
        self.data.train.load_state(state["batches"])
        torch.set_rng_state(state["random"]["cpu"])
        if self.device.type == "cuda" and "cuda" in state["random"]:
            torch.cuda.set_rng_state(state["random"]["cuda"])


def train_classifier(build_model: Callable[[], nn.Module], data: Splits, config: TorchFlags, script: str,
                     parameter_groups: Callable[[nn.Module], list[Any]] | None = None,
                     warm_up: Callable[[nn.Module, bool], None] | None = None,
                     watch: Watch | None = None) -> dict[str, Any]:
    """Train what `build_model()` makes on `data` (integer labels) as `config` says; returns the run's summary.

    parameter_groups(model): what the optimizer gets, where parts have learning rates of their own.
    warm_up(model, resumed): done before the first step, once the run's folder is there. watch: as in `Run`.
    """
    with joined(select_device(config.device), config.batch_size) as device:
        note_slow_bf16(device, config.precision)
        torch.manual_seed(config.seed)
        model = synchronised(build_model(), device).to(device).to(memory_format=torch.channels_last)
        parameters = parameter_groups(model) if parameter_groups else [p for p in model.parameters()
                                                                       if p.requires_grad]
        with start_run(config, script, data, PT, watch, agree_on_signal(), silent=rank() > 0) as run:
            trainer = Trainer(model, parameters, data, config, device, run.last_step)
            resumed = run.state is not None
            run.parameters = sum(p.numel() for p in model.parameters())
            if warm_up:
                run.warm_up(lambda: warm_up(model, resumed))
            wait_for_all()
            run.restore(trainer.load_state_dict)
            trainer.start()

            for _ in run.steps(trainer.state_dict, trainer.evaluate):
                images, labels = data.train.next_batch(config.batch_size)
                loss, correct = trainer.step(images, labels)
                run.record(loss, correct, config.batch_size)

            if config.flip_average == "on" and not watch:
                run.summary["test_accuracy_flip_averaged"] = trainer.flip_averaged_accuracy("test")
        return run.summary
