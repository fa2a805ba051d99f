"""The ConvNet's training step: ours (channels_last; float32 and bfloat16) beside plain float32 NCHW.

A step is forward, loss, backward and Adam's update. bfloat16 pays on a processor that multiplies it (AMX,
AVX512-BF16); elsewhere it is emulated and many times slower than float32, so it gets few rounds, and one round without
a warm-up at the larger batch. The limit is the step's floating-point operations at the rate of a product of square
matrices in the same precision.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.profiles import by_operator
from benchmarks.rows import Row, row
from benchmarks.timing import by_turns, torch_gemm
from convnet_pytorch import ConvNet

PLAIN = "plain float32 (NCHW)"
ROUNDS = {32: (7, 3), 256: (3, 1)}  # batch: rounds in float32, in bfloat16


def make_step(batch_size: int, memory_format: torch.memory_format, bf16: bool) -> Callable[[], None]:
    torch.manual_seed(0)
    net = ConvNet(3, 10).to(memory_format=memory_format)
    optimizer = torch.optim.Adam(net.parameters(), 1e-4)
    x = torch.randn(batch_size, 3, 32, 32).to(memory_format=memory_format)
    y = torch.randint(0, 10, (batch_size,))

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            loss = F.cross_entropy(net(x).float(), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def flops_per_image() -> float:
    """Of a training step, counted by PyTorch, convolution by convolution."""
    step, counter = make_step(2, torch.contiguous_format, False), FlopCounterMode(display=False)
    with counter:
        step()
    return counter.get_total_flops() / 2


def rows(quick: bool) -> list[Row]:
    found, flops = [], flops_per_image()
    for batch, (rounds, bf16_rounds) in ({2: (1, 1)} if quick else ROUNDS).items():
        plain = make_step(batch, torch.contiguous_format, False)
        for precision, goal in (("float32", 1 / 1.15), ("bfloat16", 1 / 2.5)):
            bf16 = precision == "bfloat16"
            ours = make_step(batch, torch.channels_last, bf16)
            gemm = torch_gemm(batch * flops, getattr(torch, precision), 128 if quick else 512)
            limit = f"gemm in {precision}"
            seconds = by_turns({"ours": ours, PLAIN: plain, limit: gemm}, bf16_rounds if bf16 else rounds,
                               warm_up=not (bf16 and bf16_rounds == 1))
            profiled = not (bf16 and batch > 32)  # one more slow step would say what the smaller batch says
            found.append(row("ConvNet step", f"batch {batch}, {precision}", seconds, "ours", PLAIN, limit,
                             reference_goal=goal, profile=by_operator(ours) if profiled else None))
    return found
