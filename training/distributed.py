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
import itertools
import os
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from training.flags import UserError

PATIENCE = timedelta(seconds=45)  # with a process that does not answer: one that has died ends the run within a minute
START = timedelta(minutes=30)  # for all to load their data and to join
HEARTBEAT = 5  # seconds
LAUNCHER = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")


def launched() -> tuple[int, int, int]:
    """(rank, number of processes, rank on this machine), as torchrun says in the environment; (0, 1, 0) without it.

    Raises:
        UserError: the launcher's variables are not all there, or do not agree.
    """
    given = {name: os.environ[name] for name in LAUNCHER if os.environ.get(name)}
    if not given.keys() & {"RANK", "WORLD_SIZE", "LOCAL_RANK"}:
        return 0, 1, 0  # an address alone may be there for other reasons
    way_out = f"start with torchrun, or unset {' '.join(given)}"
    if missing := [name for name in LAUNCHER if name not in given]:
        raise UserError(f"{', '.join(given)} of a launcher is set, but not {', '.join(missing)}: {way_out}")
    try:
        rank, size, local, port = (int(given[name]) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_PORT"))
    except ValueError:
        rank = size = local = port = -1
    if not (0 <= rank < size and 0 <= local <= rank and 0 < port < 2**16):
        raise UserError(f"{', '.join(f'{name}={value}' for name, value in given.items())} do not agree: {way_out}")
    return rank, size, local


def processes() -> int:
    """How many processes torchrun started; 1 without it."""
    return launched()[1]


def rank() -> int:
    """The number of this process among them, from 0."""
    return launched()[0]


def seed_of(seed: int, rank: int, step: int) -> int:
    """The seed of what is random in the process `rank` at this step: a stream of its own for each of both."""
    return int(np.random.SeedSequence(seed, spawn_key=(rank, step)).generate_state(1, np.uint64)[0])


@contextlib.contextmanager
def joined(device: torch.device, batch_size: int) -> Iterator[torch.device]:
    """Together with the other processes, if there are any. Gives the device that this process must use.

    Raises:
        UserError: too few images a batch, too few GPUs, or the others cannot be reached.
    """
    if processes() == 1:
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
    if not dist.is_initialized():
        try:
            store, _, _ = next(dist.rendezvous("env://", timeout=START))
            Meeting.current = Meeting(store)
            wait_for_all()
            dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=PATIENCE, store=store,
                                    rank=rank(), world_size=processes())
        except dist.DistError as error:
            raise UserError(f"no answer from the other processes at {os.environ['MASTER_ADDR']}:"
                            f"{os.environ['MASTER_PORT']}: {str(error).splitlines()[0]}") from None
    try:
        yield device
    except dist.DistError as error:
        raise ConnectionError(f"the other processes cannot be reached any more: {str(error).splitlines()[0]}") from None
    except Exception as error:
        error.told = rank() > 0  # type: ignore[attr-defined]  # the first process tells how the run ended
        raise
    finally:
        Meeting.current = None
        dist.destroy_process_group()  # the others need not wait for this process


class Meeting:
    """Where processes wait for each other as long as all of them live, which a collective operation does not.

    Each process counts up a heartbeat in the store that all of them share, as long as it lives.
    """

    current: Meeting | None = None

    def __init__(self, store: Any):
        self.store, self.places = store, itertools.count()
        self.rank, self.size = rank(), processes()
        threading.Thread(target=self._beat, daemon=True).start()

    def _beat(self) -> None:
        with contextlib.suppress(dist.DistError, RuntimeError):  # the store is gone: so are the others
            for beat in itertools.count():
                self.store.set(f"heartbeat/{self.rank}", str(beat))
                time.sleep(HEARTBEAT)

    def wait(self) -> None:
        place = f"meeting/{next(self.places)}"
        self.store.set(f"{place}/{self.rank}", "here")
        for other in range(self.size):
            beat, heard = b"", time.monotonic()
            while not self.store.check([f"{place}/{other}"]):
                if self.store.check([key := f"heartbeat/{other}"]) and (now := self.store.get(key)) != beat:
                    beat, heard = now, time.monotonic()
                if time.monotonic() - heard > (PATIENCE if beat else START).total_seconds():
                    raise ConnectionError(f"process {other} has not been heard of for {PATIENCE.seconds} s")
                time.sleep(0.01)


def wait_for_all() -> None:
    """Wait until every process is here, however long that takes them, as long as they live."""
    if Meeting.current:
        Meeting.current.wait()


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
