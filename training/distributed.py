"""Training in several processes, on one machine or several, as torchrun starts them.

    torchrun --nproc_per_node 2 train_mlp_pytorch.py --batch_size 200

Every process draws the same batches and trains on its share of each, so that --batch_size stays the size of the whole
batch and each image is seen once an epoch. Gradients are averaged by DistributedDataParallel (NCCL on GPUs, else Gloo).
Evaluation is shared out and summed. The first process alone writes the run's folder; all of them read it on --resume.

Several processes take the same steps as one, to rounding, but for what is random in each (dropout, augmentation), and
for BatchNorm on CPUs, which normalises each share by its own statistics; on GPUs PyTorch's takes those of the whole
batch. What is random in each but the first is drawn again after --resume.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from training.flags import UserError

PATIENCE = timedelta(seconds=45)  # with the others: one that has died ends the run within a minute


def processes() -> int:
    """How many processes torchrun started; 1 without it."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def rank() -> int:
    """The number of this process among them, from 0."""
    return int(os.environ.get("RANK", "0"))


@contextlib.contextmanager
def joined(device: torch.device, batch_size: int) -> Iterator[torch.device]:
    """Together with the other processes, if there are any. Gives the device that this process is to use.

    Raises:
        UserError: too few images a batch, or too few GPUs.
    """
    if processes() == 1:
        yield device
        return
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
    try:
        yield device
    finally:
        dist.destroy_process_group()  # the others need not wait for this process


def agree_on_signal() -> Callable[[int], int] | None:
    """What makes all processes stop after the same step (see `StopRequest`); None where there is only one."""
    if processes() == 1:
        return None

    def largest(signum: int) -> int:
        found = torch.tensor(signum, device="cuda" if dist.get_backend() == "nccl" else "cpu")
        dist.all_reduce(found, dist.ReduceOp.MAX)
        return int(found)

    return largest


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
