"""On a GPU: the ConvNet beside plain PyTorch, whole runs of the script, resuming, and the norms. Under eight minutes.

A step of ours is all that a run of the script does in one: it draws a batch, makes it on the device, trains on it and
records its loss. Plain PyTorch's has its batch on the device already. Both are compiled, or neither. The whole runs
start from the shell, evaluations and curves included; their accuracies stand in the setting. Without a GPU this is
only tried, with --quick.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
import torch.nn.functional as F

from benchmarks import bench_norms
from benchmarks.bench_data import cifar10_folder
from benchmarks.profiles import ROOT
from benchmarks.rows import Row, Skipped, row
from benchmarks.timing import Function, by_turns
from cifar10_utils import get_cifar10
from convnet_pytorch import ConvNet
from train_convnet_pytorch import Config
from training.numerics import chosen_precision, numerics
from training.trainer import Trainer

GOALS = {"off": 1 / 0.95, "on": 1 / 0.9}  # of the step's time beside plain PyTorch's, without and with --compile
STEPS = 20  # of a round
STEPPED = [Config(batch_size=32), Config(batch_size=32, cuda_graph="on"), Config(batch_size=512),
           Config(batch_size=512, cuda_graph="on"), Config(batch_size=512, compile="on")]
RECIPES = [("convnet-94", 30.0, (42, 43, 44)), ("convnet-95", 100.0, (42,))]  # name, most seconds of training, seeds
ONCE = ["--eval_freq", "1000000"]  # the test split is read when the run is over


def finished(step: Function, device: torch.device, steps: int) -> Callable[[], None]:
    """`steps` steps, until the device has done them."""
    def run() -> None:
        for _ in range(steps):
            step()
        if device.type == "cuda":
            torch.cuda.synchronize()
    return run


def our_step(config: Config, device: torch.device) -> tuple[Function, str]:
    """A step of the script, and the precision that --precision auto takes."""
    torch.manual_seed(0)
    net = ConvNet(3, 10).to(device).to(memory_format=torch.channels_last)
    config.precision = chosen_precision("auto", device, config.batch_size, net, config.cuda_graph == "on")
    data = get_cifar10(cifar10_folder(), one_hot=False, download=False)
    trainer = Trainer(net, list(net.parameters()), data, config, device, 10**6)
    trainer.start()
    losses: list[torch.Tensor] = []

    def step() -> None:
        if len(losses) == 500:
            torch.stack(losses).tolist()  # as often as a run reads them
            losses.clear()
        losses.append(trainer.step()[0])

    return step, config.precision


def plain_step(batch_size: int, device: torch.device, bf16: bool, compiled: bool) -> Function:
    torch.manual_seed(0)
    net = ConvNet(3, 10).to(device).to(memory_format=torch.channels_last)
    forward = torch.compile(net) if compiled else net
    optimizer = torch.optim.Adam(net.parameters(), 1e-4, fused=True if device.type == "cuda" else None)
    x = torch.randn(batch_size, 3, 32, 32, device=device).to(memory_format=torch.channels_last)
    y = torch.randint(0, 10, (batch_size,), device=device)

    def step() -> None:
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            loss = F.cross_entropy(forward(x).float(), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def steps(device: torch.device, quick: bool) -> Iterator[Row]:
    for config in [Config(batch_size=2)] if quick else STEPPED:
        ours, precision = our_step(config, device)
        plain = plain_step(config.batch_size, device, precision == "bf16", config.compile == "on")
        seconds = by_turns({name: finished(step, device, 1 if quick else STEPS)
                            for name, step in (("ours", ours), ("plain PyTorch", plain))}, rounds=2 if quick else 11)
        seconds = {name: [value / (1 if quick else STEPS) for value in values] for name, values in seconds.items()}
        setting = f"batch {config.batch_size}, {precision}, compile {config.compile}, CUDA graph {config.cuda_graph}"
        yield row("ConvNet step, on a GPU", setting, seconds, "ours", "plain PyTorch",
                  reference_goal=GOALS[config.compile] if config.batch_size == 512 else None)


def whole_run(folder: Path, *flags: str) -> dict[str, float]:
    """The summary of train_convnet_pytorch.py with these flags, and the seconds of the whole process."""
    start = time.perf_counter()
    where = [] if "--resume" in flags else ["--output_dir", str(folder), "--data_dir", str(cifar10_folder())]
    subprocess.run([sys.executable, "train_convnet_pytorch.py", *flags, *where], cwd=ROOT, check=True,
                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return json.loads((folder / "summary.json").read_text()) | {"process": time.perf_counter() - start}


def trained(setting: str, which: str, limit: float, summaries: list[dict[str, float]]) -> Row:
    """A row of whole runs with their test accuracies. limit: the most seconds that their figure `which` may have."""
    accuracies = ", ".join(f"{summary['test_accuracy']:.4f}" for summary in summaries)
    averaged = ", ".join(f"{summary['test_accuracy_flip_averaged']:.4f}" for summary in summaries
                         if "test_accuracy_flip_averaged" in summary)
    if averaged:
        accuracies += f"; flip-averaged {averaged}"
    seconds = {"ours": [summary[which] for summary in summaries], f"{limit:.0f} s": [limit] * len(summaries)}
    return row("ConvNet run, on a GPU", f"{setting}: accuracy {accuracies}", seconds, "ours", f"{limit:.0f} s",
               reference_goal=1.0)


def runs(quick: bool) -> Iterator[Row]:
    short = ["--max_steps", "2", "--batch_size", "4"] if quick else []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for recipe, limit, seeds in RECIPES:
            yield trained(f"{recipe}, training", "wall_seconds", limit, [
                whole_run(folder / f"{recipe}-{seed}", "--recipe", recipe, "--seed", str(seed), *ONCE, *short)
                for seed in (seeds[:1] if quick else seeds)])
        for name, limit, flags in (("defaults", 27.0, []), ("--cuda_graph on", 16.0, ["--cuda_graph", "on"])):
            yield trained(f"{name}, whole process", "process", limit, [whole_run(folder / name, *flags, *short)])
        yield resumed(folder, short or ["--max_steps", "200", "--eval_freq", "100"])


def resumed(folder: Path, flags: list[str]) -> Row:
    """A run at once, again with the same seed, and in two pieces: by how much their last test losses differ."""
    half = str(int(flags[1]) // 2)
    losses = []
    for name, first in (("once", flags), ("again", flags), ("pieces", [*flags, "--max_steps", half])):
        summary = whole_run(folder / name, *first, "--deterministic", "on")
        if name == "pieces":
            summary = whole_run(folder / name, "--resume", str(folder / name), "--max_steps", flags[1])
        losses.append(summary["test_loss"])
    apart = [f"{abs(loss - losses[0]):.3g}" for loss in losses[1:]]
    return row("ConvNet run, on a GPU", f"{flags[1]} steps with --deterministic on: test loss of the same seed again "
               f"differs by {apart[0]}, of the run in two pieces by {apart[1]}", {"ours": [summary["process"]]}, "ours")


def norms(device: torch.device, quick: bool) -> Iterator[Row]:
    for shape, calls in bench_norms.SHAPES.items():
        ours, plain = (finished(bench_norms.forward_and_backward(norm, shape, torch.float32, device), device,
                                1 if quick else calls) for norm in bench_norms.NORMS["LayerNorm"])
        seconds = by_turns({"ours": ours, "plain PyTorch": plain}, rounds=2 if quick else 31)
        seconds = {name: [value / (1 if quick else calls) for value in values] for name, values in seconds.items()}
        yield row("LayerNorm, on a GPU", f"{shape[0]} x {shape[1]}, float32", seconds, "ours", "plain PyTorch")


def rows(quick: bool) -> Iterator[Row]:
    if not torch.cuda.is_available() and not quick:
        raise Skipped("this machine has no GPU")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    with numerics(tf32=False, deterministic=False):  # as in a run of a script
        yield from norms(device, quick)
        yield from runs(quick)
        yield from steps(device, quick)
