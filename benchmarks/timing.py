"""Time functions against each other, in one process and by turns, so that a busy moment hits all of them alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable


def by_turns(functions: dict[str, Callable[[], object]], rounds: int = 31, calls: int = 1) -> dict[str, list[float]]:
    """{name: seconds of one call, a value per round}; a first round, not counted, warms up."""
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    for turn in range(rounds + 1):
        for name, function in functions.items():
            start = time.perf_counter()
            for _ in range(calls):
                function()
            if turn:
                seconds[name].append((time.perf_counter() - start) / calls)
    return seconds


def spread(values: list[float], unit: str = "", scale: float = 1.0) -> str:
    """'median [first quartile .. third quartile] unit'."""
    low, middle, high = statistics.quantiles([value * scale for value in values], n=4)
    return f"{middle:.3g} [{low:.3g} .. {high:.3g}] {unit}".rstrip()


def ratio(seconds: dict[str, list[float]], name: str, reference: str) -> list[float]:
    """Time of `name` over time of `reference`, round by round."""
    return [a / b for a, b in zip(seconds[name], seconds[reference], strict=True)]
