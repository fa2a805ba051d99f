"""The rows of metrics.csv."""

from __future__ import annotations

import contextlib
import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from training.checkpoints import atomic_write

METRICS = ["step", "split", "loss", "accuracy", "learning_rate", "seconds", "images_per_second"]


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The rows of a metrics.csv, numbers as numbers; a last line cut short by a kill is left out.

    Raises:
        ValueError: not a metrics.csv at all.
    """
    rows = []
    try:
        with open(path, newline="") as file:
            for row in csv.DictReader(file):
                with contextlib.suppress(TypeError, ValueError):
                    row.setdefault("learning_rate", "nan")  # files of version 2.0 have no such column
                    rows.append({"step": int(row["step"]), "split": row["split"],
                                 **{key: float(row[key]) for key in METRICS[2:]}})
    except (csv.Error, KeyError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not what a run writes ({error})") from None
    return rows


def write_metrics(folder: Path, rows: list[dict[str, Any]], columns: Sequence[str] = METRICS) -> None:
    """Replace metrics.csv of the run folder."""
    with atomic_write(folder / "metrics.csv", "w") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)
