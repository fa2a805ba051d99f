"""Training in several processes, on one machine or several, as torchrun starts them.

    torchrun --nproc_per_node 2 train_mlp_pytorch.py --batch_size 200

Every process draws the same batches and trains on its share of each, so that --batch_size stays the size of the whole
batch and each image is seen once an epoch. Gradients are averaged by DistributedDataParallel (NCCL on GPUs, else Gloo).
Evaluation is shared out and summed. The first process alone writes the run's folder; all of them read it on --resume.

Several processes take the same steps as one, to rounding, but for what is random in each (dropout, augmentation), and
for BatchNorm on CPUs, which normalises each share by its own statistics; on GPUs PyTorch's takes those of the whole
batch. What is random in each but the first is drawn anew after --resume.
"""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from flags import UserError
from training import Run

PATIENCE = timedelta(seconds=45)  # with the others: one that has died ends the run within a minute


def processes() -> int:
    """How many processes torchrun started; 1 without it."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def rank() -> int:
    """The number of this process among them, from 0."""
    return int(os.environ.get("RANK", "0"))


def join(device: torch.device, batch_size: int) -> torch.device:
    """Meet the others, if there are any; returns the device that this process is to use."""
    if processes() == 1:
        return device
    if batch_size < 2 * processes():  # BatchNorm has no statistics of a single image
        raise UserError(f"--batch_size: {batch_size} images cannot be shared by {processes()} processes, two to each")
    if device.type == "cuda":
        if (number := int(os.environ["LOCAL_RANK"])) >= (there := torch.cuda.device_count()):
            raise UserError(f"--device: process {number + 1} of this machine has no GPU of its own, there being "
                            f"{there}; start as many as there are, or add --device cpu")
        device = torch.device("cuda", number)
        torch.cuda.set_device(device)
    if not dist.is_initialized():
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=PATIENCE)
    return device


def synchronised(model: nn.Module, device: torch.device) -> nn.Module:
    """`model` with BatchNorm over the whole batch, where the device can."""
    return nn.SyncBatchNorm.convert_sync_batchnorm(model) if processes() > 1 and device.type == "cuda" else model


def averaged(model: nn.Module, device: torch.device) -> nn.Module:
    """`model` as what to train: its gradients become the mean over all processes."""
    if processes() == 1:
        return model
    return DistributedDataParallel(model, device_ids=[device] if device.type == "cuda" else None)


def agree_on_buffers(model: nn.Module) -> None:
    """Every process takes the first one's buffers, BatchNorm's running averages: they are those that are saved."""
    if processes() > 1:
        for buffer in model.buffers():
            dist.broadcast(buffer, 0)


def share(batch: Any) -> Any:
    """This process's rows of a batch, every so many-th."""
    return batch[rank()::processes()]


def total(device: torch.device, *values: float) -> list[float]:
    """The sum of each value over all processes."""
    if processes() == 1:
        return list(values)
    sums = torch.tensor(values, dtype=torch.float64, device=device)
    dist.all_reduce(sums)
    return sums.tolist()


def run_of(*arguments: Any) -> Run:
    """The Run of this process."""
    if processes() == 1:
        return Run(*arguments)
    return (FollowingRun if rank() else SharedRun)(*arguments)


class SharedRun(Run):
    """A run of several processes, which stop after the same step whichever of them was asked to."""

    def __exit__(self, *error: Any) -> None:
        try:
            super().__exit__(*error)
        finally:
            dist.destroy_process_group()  # the others need not wait for this process

    def _on_signal(self, signum: int, frame: Any) -> None:
        self._signal = signum  # an evaluation is finished first: the others are at it too

    def _leave_if_asked(self) -> None:
        device = "cuda" if dist.get_backend() == "nccl" else "cpu"
        signum = torch.tensor(self._signal, device=device)
        dist.all_reduce(signum, dist.ReduceOp.MAX)
        if agreed := int(signum):  # a signal that came just now waits for the next time, when all hear of it
            self._signal = agreed
            super()._leave_if_asked()


class FollowingRun(SharedRun):
    """The run of a process that is not the first: it writes nothing."""

    def __enter__(self) -> Run:
        super().__enter__()
        self._bar.disable = True
        return self

    def _new_folder(self) -> Path:
        self._lock_folder(Path())
        return Path(self.config.output_dir)

    def _lock_folder(self, folder: Path) -> None:
        self._lock = open(os.devnull, "w")  # noqa: SIM115 (closed where the lock would be)

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self.summary = {}

    def _say(self, text: str) -> None: ...

    def _write(self, name: str, value: Any) -> None: ...

    def _rewrite_metrics(self) -> None: ...

    def _take_up(self) -> None: ...

    def _save(self, name: str) -> None: ...

    def _plot(self) -> None: ...

    def _append(self, rows: list[dict[str, Any]]) -> None:
        self.rows += rows
