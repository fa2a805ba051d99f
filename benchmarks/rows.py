"""A row of the table: a time, and what it is beside plain code and beside the limit this machine shows."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field

from benchmarks.timing import Seconds

Profile = list[tuple[str, float]]  # where the time goes: name and share of the whole, largest first


class Skipped(Exception):
    """What a benchmark needs is not here; the message says what."""


@dataclass(frozen=True)
class Spread:
    """Median and quartiles."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: list[float]) -> Spread:
        low, median, high = statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else values * 3
        return cls(median, low, high)


@dataclass(frozen=True)
class Beside:
    """The row's time over that of something else, round by round; the goal is the most its median may be."""

    name: str
    ratio: Spread
    goal: float | None = None
    met: bool | None = None


@dataclass(frozen=True)
class Row:
    """One line of the table. `name` has a paragraph in NOTES.md; several rows may share it.

    rounds: how many measurements stand behind the medians. sizes: seconds against size, where a cost's growth is
    measured; exponent: the slope of log seconds over log size.
    """

    name: str
    setting: str
    seconds: Spread
    rounds: int
    reference: Beside | None = None
    limit: Beside | None = None
    profile: Profile = field(default_factory=list)
    sizes: dict[str, float] = field(default_factory=dict)
    exponent: Spread | None = None


def beside(seconds: Seconds, ours: str, other: str, goal: float | None = None) -> Beside:
    """Time of `ours` over time of `other`."""
    ratio = Spread.of([a / b for a, b in zip(seconds[ours], seconds[other], strict=True)])
    return Beside(other, ratio, goal, None if goal is None else ratio.median <= goal)


def row(name: str, setting: str, seconds: Seconds, ours: str, reference: str = "", limit: str = "", *,
        reference_goal: float | None = None, limit_goal: float | None = None, profile: Profile | None = None) -> Row:
    """The row of what `seconds` calls `ours`; `reference` and `limit` are names there too."""
    return Row(name, setting, Spread.of(seconds[ours]), len(seconds[ours]),
               beside(seconds, ours, reference, reference_goal) if reference else None,
               beside(seconds, ours, limit, limit_goal) if limit else None, profile or [])
