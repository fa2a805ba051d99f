"""Training in several processes, on one machine or several, as torchrun starts them.

    torchrun --nproc_per_node 2 train_mlp_pytorch.py --batch_size 200

Every process draws the same batches and trains on its share of each, so that --batch_size stays the size of the whole
batch and each image is seen once an epoch. Gradients are averaged by DistributedDataParallel (NCCL on GPUs, else Gloo).
Evaluation is shared out and summed. The first process alone writes the run's folder; all of them read it on --resume.

Several processes take the same steps as one, to rounding, but for what is random in each (dropout, augmentation), and
for BatchNorm on CPUs, which normalises each share by its own statistics; on GPUs PyTorch's takes those of the whole
batch. What is random in a process other than the first follows from the seed, its rank and the step.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from training.flags import UserError
from training.rendezvous import (
    PATIENCE,
    Meeting,
    gloo_interface,
    launched,
    lost_connections,
    note_independent_tasks,
    processes,
    rank,
    shared_store,
)


def seed_of(seed: int, rank: int, step: int) -> int:
    """The seed of what is random in the process `rank` at this step: a stream of its own for each of both."""
    return int(np.random.SeedSequence(seed, spawn_key=(rank, step)).generate_state(1, np.uint64)[0])


@contextlib.contextmanager
def joined(device: torch.device, batch_size: int) -> Iterator[torch.device]:
    """Together with the other processes, if there are any. Gives the device that this process must use.

    Raises:
        UserError: too few images a batch, too few GPUs, or the launcher's variables do not fit those of the others.
        ConnectionError: the others cannot be reached, or not any more.
    """
    if processes() == 1:
        note_independent_tasks()
        yield device
        return
    if batch_size < 2 * processes():  # BatchNorm has no statistics of a single image
        raise UserError(f"--batch_size: {batch_size} images cannot be shared by {processes()} processes, two to each")
    if device.type == "cuda":
        if (number := launched()[2]) >= (there := torch.cuda.device_count()):
            raise UserError(f"--device: process {number + 1} of this machine has no GPU of its own, there being "
                            f"{there}; start as many as there are, or add --device cpu")
        device = torch.device("cuda", number)
        torch.cuda.set_device(device)
    try:
        if not dist.is_initialized():
            with lost_connections("cannot be reached"):
                Meeting.current = meeting = Meeting(shared_store())
                with gloo_interface(meeting):
                    dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=PATIENCE,
                                            store=meeting.store, rank=rank(), world_size=processes())
        with lost_connections("cannot be reached any more"):
            yield device
    except Exception as error:
        error.told = rank() > 0  # type: ignore[attr-defined]  # the first process tells how the run ended
        raise
    finally:
        if Meeting.current:
            Meeting.current.leave()
            Meeting.current = None
        if dist.is_initialized():
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


def total(values: torch.Tensor) -> torch.Tensor:
    """`values`, each become its sum over all processes."""
    if processes() > 1:
        dist.all_reduce(values)
    return values
