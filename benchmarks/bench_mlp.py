"""The MLP's training step in NumPy and in PyTorch, and whole runs of both scripts at their defaults.

A step is forward, loss, backward and the update of plain gradient descent; batch 200, 3072-100-10, ELU, float32. The
limit in NumPy is its five matrix products alone, into memory that is there already; theirs, and that in PyTorch, is the
time of the floating-point operations at the rate of a product of square matrices. The whole runs start from the shell:
imports, loading, training, evaluations, curves.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from benchmarks.bench_data import cifar10_folder
from benchmarks.profiles import ROOT, by_function, by_operator, of_script
from benchmarks.rows import Row, row
from benchmarks.timing import by_turns, numpy_gemm, torch_gemm
from mlp_numpy import MLP
from mlp_pytorch import MLP as TorchMLP
from modules import CrossEntropyModule, LinearModule
from train_mlp_numpy import Config
from training.run import accuracy

BATCH, D, H, C, RATE = 200, 3072, 100, 10, 1e-3
TEST_IMAGES = 10_000
SETTING = f"{D}-{H}-{C}, batch {BATCH}, float32"


def step_flops(batch: int, widths: list[int]) -> float:
    """A product forward and two backward for each layer, but one backward for the first."""
    return 2 * batch * sum((3 if i else 2) * n_in * n_out for i, (n_in, n_out) in enumerate(pairwise(widths)))


def batch_of(size: int, d: int = D) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.normal(scale=60, size=(size, d)).astype(np.float32), rng.integers(0, C, size)


def numpy_step(batch: int = BATCH, hidden: list[int] | None = None) -> Callable[[], None]:
    """The loop body of train_mlp_numpy.py without the batch and the record."""
    x, labels = batch_of(batch)
    y = np.eye(C, dtype=np.float32)[labels]
    model = MLP(D, [H] if hidden is None else hidden, C, rng=np.random.default_rng(0))
    loss_module = CrossEntropyModule()
    linear = [layer for layer in model.layers if isinstance(layer, LinearModule)]

    def step() -> None:
        probabilities = model.forward(x)
        loss_module.forward(probabilities, y)
        model.backward(loss_module.backward(probabilities, y))
        for module in linear:
            for key, gradient in module.grads.items():
                gradient *= RATE
                module.params[key] -= gradient

    return step


def torch_step(net: nn.Module, batch: Callable[[], tuple[torch.Tensor, torch.Tensor]],
               watch: bool = False) -> Callable[[], None]:
    """Plain eager PyTorch; with `watch` also the accuracy, as our loop has it."""
    optimizer = torch.optim.SGD(net.parameters(), RATE)

    def step() -> None:
        x, y = batch()
        logits = net(x)
        loss = F.cross_entropy(logits, y)
        if watch:
            accuracy(logits, y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        loss.item()

    return step


def products() -> Callable[[], None]:
    """The five matrix products of a step, into memory that is there already."""
    rng = np.random.default_rng(0)

    def normal(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape, np.float32)

    x, w1, w2, hidden, d_hidden, d_out = (normal(BATCH, D), normal(H, D), normal(C, H), normal(BATCH, H),
                                          normal(BATCH, H), normal(BATCH, C))
    hidden_out, logits_out, w1_out, w2_out = normal(BATCH, H), normal(BATCH, C), normal(H, D), normal(C, H)

    def multiply() -> None:
        np.matmul(x, w1.T, out=hidden_out)
        np.matmul(hidden, w2.T, out=logits_out)
        np.matmul(d_out.T, hidden, out=w2_out)
        np.matmul(d_out, w2, out=hidden_out)
        np.matmul(d_hidden.T, x, out=w1_out)

    return multiply


def steps(quick: bool) -> list[Row]:
    images, labels = batch_of(BATCH)
    pictures, targets = images.reshape(BATCH, 3, 32, 32), torch.from_numpy(labels)
    plain = nn.Sequential(nn.Linear(D, H), nn.ELU(), nn.Linear(H, C))
    flops = step_flops(BATCH, [D, H, C])
    ours = numpy_step()
    net = TorchMLP(D, [H], C)
    torchs = torch_step(net, lambda: (torch.from_numpy(pictures), targets), watch=True)
    seconds = by_turns({
        "NumPy": ours,
        "PyTorch": torchs,
        "plain PyTorch": torch_step(plain, lambda: (torch.from_numpy(images), targets)),
        "products": products(),
        "sgemm": numpy_gemm(flops),
        "sgemm of PyTorch": torch_gemm(flops),
    }, rounds=2 if quick else 41, calls=2 if quick else 10)
    times = 5 if quick else 200
    return [
        row("NumPy step", SETTING, seconds, "NumPy", "plain PyTorch", "products", reference_goal=1.0, limit_goal=1.25,
            profile=by_function(ours, times)),
        row("NumPy step, its matrix products alone", SETTING, seconds, "products", "", "sgemm"),
        row("PyTorch MLP step", SETTING, seconds, "PyTorch", "plain PyTorch", "sgemm of PyTorch",
            profile=by_operator(torchs, times)),
    ]


def whole_runs(quick: bool) -> list[Row]:
    flags = ["--data_dir", str(cifar10_folder()), *(["--max_steps", "2"] if quick else [])]
    count = 2 if quick else Config.max_steps
    evaluations = 1 if quick else count // Config.eval_freq
    flops = count * step_flops(BATCH, [D, H, C]) + evaluations * 2 * TEST_IMAGES * (D * H + H * C)

    def run(script: str) -> Callable[[], None]:
        def start() -> None:
            with tempfile.TemporaryDirectory() as folder:
                subprocess.run([sys.executable, script, *flags, "--output_dir", f"{folder}/run"], cwd=ROOT, check=True,
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        return start

    seconds = by_turns({"NumPy": run("train_mlp_numpy.py"), "PyTorch": run("train_mlp_pytorch.py"),
                        "sgemm": numpy_gemm(flops), "sgemm of PyTorch": torch_gemm(flops)},
                       rounds=1 if quick else 3, warm_up=not quick)
    with tempfile.TemporaryDirectory() as folder:
        profiles = [of_script(f"train_mlp_{kind}.py", *flags, "--output_dir", f"{folder}/{kind}")
                    for kind in ("numpy", "pytorch")]
    setting = f"defaults, {count} steps" + (", stopped early" if quick else "")
    return [row("NumPy whole run", setting, seconds, "NumPy", "PyTorch", "sgemm", profile=profiles[0]),
            row("PyTorch whole run", setting, seconds, "PyTorch", "", "sgemm of PyTorch", profile=profiles[1])]


def rows(quick: bool) -> list[Row]:
    return steps(quick) + whole_runs(quick)
