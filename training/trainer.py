"""How the PyTorch scripts train: `train_classifier` is the loop, `Trainer` a step, an evaluation and a checkpoint."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from imagefiles.dataset import DataSet, Splits
from training.augment import cutout, flip, mix, shift
from training.checkpoints import CheckpointFormat, atomic_write, damaged, missing, whole
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
from training.images import Images, layout_of
from training.numerics import chosen_precision, note_slow_bf16, numerics
from training.optimizers import OPTIMIZERS, SCHEDULES, WITH_MOMENTUM
from training.rendezvous import processes, rank, wait_for_all
from training.run import Watch, start_run


@dataclass
class TorchFlags(TrainingFlags):
    """Flags of every PyTorch script, behind those that all scripts have."""

    optimizer: str = flag("sgd", "update rule", choices=list(OPTIMIZERS), group="optimization")
    momentum: float = flag(0.0, "momentum of the optimizer", type=fraction, group="optimization",
                           needs=f"--optimizer {'|'.join(WITH_MOMENTUM)}")
    weight_decay: float = flag(0.0, "L2 penalty (adamw: decoupled weight decay; muon: of all but "
                                    "its matrices)", type=non_negative_float, group="optimization")
    lr_schedule: str = flag("constant", "learning rate over the run; one_cycle, triangle and cosine end at "
                                        "about 0",
                            choices=list(SCHEDULES), group="optimization")
    label_smoothing: float = flag(0.0, "share of each training target that is spread over all classes",
                                  type=fraction, group="optimization")
    ema_decay: float = flag(0.0, "evaluate, and keep, a moving average of the weights that keeps so much of itself "
                                 "each step, such as 0.999; 0 for the weights themselves", type=fraction,
                            group="optimization")
    flip: str = flag("off", "mirror each training image left to right with probability 1/2; alternate mirrors half of "
                            "them in every second epoch, and with the other half in between",
                     choices=["on", "alternate", "off"], group="images")
    shift: int = flag(0, "move each training image by up to so many pixels, randomly", type=non_negative_int,
                      group="images")
    shift_fill: str = flag("zero", "what moves in from outside: the mean image, or the image mirrored at its border",
                           choices=["zero", "reflect"], group="images", needs="--shift")
    cutout: int = flag(0, "set a square of so many pixels a side to the mean image, anywhere in each training image",
                       type=non_negative_int, group="images")
    mixup: float = flag(0.0, "mix training images in pairs, with a weight from Beta(mixup, mixup), from 0.01 up; 0 for "
                             "none", type=non_negative_float, group="images")
    flip_average: str = flag("off", "at the end, read the test split also with the logits of each image and its mirror "
                                    "image averaged", choices=["on", "off"], group="images")
    device: str = flag("auto", "where to compute; auto takes a GPU when there is one",
                       choices=["auto", "cpu", "cuda", "mps"], resumable=True)
    precision: str = flag("fp32", "bf16 computes matrix products and convolutions in bfloat16; auto does so where the "
                                  "device multiplies it and such a network trains faster (on a GPU from 256 images a "
                                  "batch, or with --cuda_graph on)",
                          choices=["auto", "fp32", "bf16"])
    tf32: str = flag("off", "on a GPU, let products in float32 round their inputs to 10 bits behind the point, as "
                            "TensorFloat-32 does", choices=["on", "off"],
                     needs="--precision fp32|auto and --device auto|cuda")
    compile: str = flag("off", "compile the network at the first step, which takes a while and pays in long runs "
                               "on a GPU", choices=["on", "off"])
    cuda_graph: str = flag("off", "on a GPU, record the network's operators before the first step and start them "
                                  "together from then on, which pays with small batches", choices=["on", "off"],
                           needs="--compile off and --device auto|cuda")
    deterministic: str = flag("off", "on a GPU, let the same seed give the same run, as on a CPU, where PyTorch has "
                                     "such operators", choices=["on", "off"], needs="--device auto|cuda")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.optimizer in ("nesterov", "muon") and not self.momentum:
            raise UserError(f"--momentum: {self.optimizer} needs one above 0, such as --momentum 0.9")
        if 0 < self.mixup < 0.01:  # draws of so narrow a Beta distribution are not to be had in float32
            raise UserError(f"--mixup: {self.mixup} is below 0.01; 0 mixes nothing")
        if self.shift_fill == "reflect" and self.shift >= 28:
            raise UserError(f"--shift: {self.shift} pixels are not there to be mirrored; use less than 28, or "
                            "--shift_fill zero")

    def load_data(self, one_hot: bool = False) -> Splits:
        processes()  # what is wrong with a launcher's variables is said before anything is fetched
        return super().load_data(one_hot)


def select_device(name: str) -> torch.device:
    """The device called `name`; 'auto' is CUDA, else MPS, else the CPU. UserError where it is not there."""
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        name = next(device for device, present in there.items() if present)
    if not there[name]:
        raise UserError(f"--device: {name} is not available here; use --device auto or --device cpu")
    return torch.device(name)


def _save_torch(path: Path, checkpoint: dict[str, Any]) -> None:
    with atomic_write(path) as file:
        try:
            torch.save({key: torch.from_numpy(value) if isinstance(value, np.ndarray) else value
                        for key, value in checkpoint.items()}, file)  # plain PyTorch reads no array of NumPy
        except RuntimeError as error:
            if isinstance(error.__context__, OSError):  # a full disk, which PyTorch calls an unexpected position
                raise error.__context__ from None
            raise


def load_torch(path: Path) -> dict[str, Any]:
    """A .pt file's content on the CPU; only tensors and plain Python values are admitted."""
    if not path.exists():
        raise missing(path)
    try:
        return whole(path, torch.load(path, map_location="cpu", weights_only=True))
    except Exception:  # torch has many ways to stumble over foreign bytes
        raise damaged(path) from None


PT = CheckpointFormat(".pt", _save_torch, load_torch)


def precise(value: Tensor) -> Tensor:
    """`value` in float64, as Python has numbers; in float32 on Apple's GPUs, which have nothing else."""
    return value.to(torch.float32 if value.device.type == "mps" else torch.float64)


def hits(logits: Tensor, targets: Tensor) -> Tensor:
    """Fraction of rows whose largest logit is the target, on the device."""
    return precise((logits.argmax(1) == targets).sum()) / len(targets)


def evaluate(model: nn.Module, split: DataSet | Images, device: torch.device, precision: str = "fp32",
             batch_size: int = 500) -> tuple[float, float]:
    """Mean cross-entropy and accuracy of `model` over every sample of `split` once, in evaluation mode."""
    images = split if isinstance(split, Images) else Images(split, device, layout_of(model))
    examples = images.split.num_examples
    was_training = model.training
    model.eval()
    agree_on_buffers(model)
    batch_size -= examples % batch_size == 1  # our BatchNorm cannot take a single image
    sums = precise(torch.zeros(2, device=device))  # of the loss and of what is right
    with torch.inference_mode():
        for number, (x, targets) in enumerate(images.batches(batch_size)):
            if number % processes() != rank():
                continue
            with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
                logits = model(x)
            loss = precise(F.cross_entropy(logits.float(), targets, reduction="sum"))
            sums += torch.stack([loss, hits(logits, targets) * len(targets)])
    model.train(was_training)
    wait_for_all()
    loss_sum, correct_sum = total(sums).tolist()
    return loss_sum / examples, correct_sum / examples


def record_graphs(model: nn.Module, x: Tensor, bf16: bool) -> None:
    """From now on, the forward and backward pass of `model` in training mode are CUDA graphs, for batches like `x`.

    A graph starts all operators of a pass at once, where the processor takes longer to start one after the other than
    the GPU to compute them. Recording runs them a few times, which leaves no trace in the model.
    """
    # PyTorch's recorder keeps nodes of another stream, of which a step would warn.
    warnings.filterwarnings("ignore", "The AccumulateGrad node's stream does not match", UserWarning)
    before = [buffer.clone() for buffer in model.buffers()]
    with torch.random.fork_rng(), torch.autocast("cuda", torch.bfloat16, enabled=bf16, cache_enabled=False):
        torch.cuda.make_graphed_callables(model, (x,))
    for buffer, value in zip(model.buffers(), before, strict=True):
        buffer.copy_(value)  # BatchNorm's averages, which the graph keeps filling in place


class FlipAverage(nn.Module):
    """The mean of the logits that `model` gives an image and its mirror image."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        return (self.model(x) + self.model(x.flip(3))) / 2


Targets = list[tuple[Tensor, float]]  # labels of shape (B,) and the weight that they have, which add up to 1


def augmented(x: Tensor, labels: Tensor, config: TorchFlags, mirrored: Tensor | None = None) -> tuple[Tensor, Targets]:
    """The batch as the flags change it, and its targets: with mixup, those of both images of each pair.

    mirrored: (B,), which images --flip mirrors, where that is not drawn here.
    """
    if config.flip != "off":
        x = flip(x, mirrored)
    if config.shift:
        x = shift(x, config.shift, config.shift_fill)
    if config.cutout:
        x = cutout(x, config.cutout)
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
                                                      config.momentum, True if device.type == "cuda" else None)
        self.schedule = SCHEDULES[config.lr_schedule](self.optimizer, last_step)
        self.average: Any = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(config.ema_decay),
                                          use_buffers=True) if config.ema_decay else None
        self.evaluated: nn.Module = self.average or model
        self.trained: Callable[[Tensor], Tensor] = model
        self._images: dict[str, Images] = {}
        # Which images --flip alternate mirrors in the epochs 0, 2, 4, ...
        self._mirrored_first = np.random.default_rng(config.seed).random(data.train.num_examples) < 0.5

    def start(self) -> None:
        """To be called once, when the weights are those that training starts from."""
        if self.config.cuda_graph == "on" and processes() > 1:
            raise UserError("--cuda_graph: several processes cannot record theirs; leave it out")
        self.model.train()
        self.trained = averaged(self.model, self.device)
        if self.config.compile == "on":
            self.trained = torch.compile(self.trained)
        elif self.config.cuda_graph == "on" and self.device.type == "cuda":
            record_graphs(self.model, self.images("train").at(np.arange(self.config.batch_size))[0],
                          self.config.precision == "bf16")

    def images(self, split: str) -> Images:
        """The split of this name on the device, where it is from when it is first asked for."""
        if split not in self._images:
            self._images[split] = Images(self.data[split], self.device, layout_of(self.model))
        return self._images[split]

    def _alternating(self, indices: np.ndarray, before: int) -> Tensor | None:
        """With --flip alternate, which images of a batch are mirrored; `before` were served before it."""
        if self.config.flip != "alternate":
            return None
        epochs = share((before + np.arange(self.config.batch_size)) // self.data.train.num_examples)
        return torch.from_numpy(self._mirrored_first[indices] ^ (epochs % 2 == 1))

    def step(self) -> tuple[Tensor, Tensor]:
        """One update from the next batch. Returns its mean loss and accuracy before it, which the device may still be
        computing: nothing in here waits for it."""
        config = self.config
        if rank():  # dropout and augmentation are each process's own; the first continues the stream of the weights
            torch.manual_seed(seed_of(config.seed, rank(), self.schedule.last_epoch))
        before = self.data.train.served
        indices = share(self.data.train.next_indices(config.batch_size))
        x, labels = self.images("train").at(indices)
        x, targets = augmented(x, labels, config, self._alternating(indices, before))

        with torch.autocast(self.device.type, torch.bfloat16, enabled=config.precision == "bf16"):
            logits = self.trained(x)                      # (B, classes)
            loss = sum((weight * F.cross_entropy(logits.float(), target, label_smoothing=config.label_smoothing)
                        for target, weight in targets), torch.zeros((), device=self.device))

        part = len(x) / config.batch_size                 # 1, unless there are several processes
        correct = sum((weight * hits(logits, target) for target, weight in targets), torch.zeros((), device=x.device))
        score = total(part * torch.stack([precise(loss.detach()), correct]))

        self.optimizer.zero_grad()
        (part * processes() * loss).backward()
        self.optimizer.step()
        self.schedule.step()
        if self.average:
            self.average.update_parameters(self.model)
        return score[0], score[1]

    def evaluate(self, split: DataSet) -> tuple[float, float]:
        """Mean loss and accuracy over `split`, every sample once."""
        return evaluate(self.evaluated, split, self.device, self.config.precision)

    def flip_averaged_accuracy(self, split: DataSet) -> float:
        """Accuracy of the mean of the logits of each image and its mirror image."""
        return evaluate(FlipAverage(self.evaluated), split, self.device, self.config.precision)[1]

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
    with (joined(select_device(config.device), config.batch_size) as device,
          numerics(config.tf32 == "on", config.deterministic == "on")):
        torch.manual_seed(config.seed)
        model = synchronised(build_model(), device).to(device).to(memory_format=torch.channels_last)
        parameters = parameter_groups(model) if parameter_groups else [p for p in model.parameters()
                                                                       if p.requires_grad]
        config = replace(config, precision=chosen_precision(config.precision, device, config.batch_size, model,
                                                             config.cuda_graph == "on"))
        note_slow_bf16(device, config.precision)
        with start_run(config, script, data, PT, watch, agree_on_signal(), silent=rank() > 0) as run:
            run.folder.say(f"training on {device.type} in {config.precision}")
            trainer = Trainer(model, parameters, data, config, device, run.last_step)
            resumed = run.state is not None
            run.parameters = sum(p.numel() for p in model.parameters())
            if warm_up:
                run.warm_up(lambda: warm_up(model, resumed))
            run.warm_up(wait_for_all)
            run.restore(trainer.load_state_dict)
            trainer.start()

            for _ in run.steps(trainer.state_dict, trainer.evaluate):
                learning_rate = trainer.schedule.get_last_lr()[0]
                loss, correct = trainer.step()
                run.record(loss, correct, config.batch_size, learning_rate=learning_rate, later=device.type != "cpu")

            if config.flip_average == "on" and not watch:
                run.summary["test_accuracy_flip_averaged"] = trainer.flip_averaged_accuracy(run.part("test"))
        return run.summary
