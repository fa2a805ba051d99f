"""The rows of metrics.csv for TensorBoard, whose own package writes them: --tensorboard on."""

from __future__ import annotations

import math
from typing import Any

from training.flags import UserError


def events_writer() -> Any:
    """TensorBoard's class of writers, each of a folder. Raises UserError where TensorBoard is not installed."""
    try:
        from tensorboard.summary import Writer  # here, and not at the top: few have it
    except ImportError:
        raise UserError("--tensorboard: its package is not installed: pip install tensorboard") from None
    return Writer


def write_events(writer: Any, rows: list[dict[str, Any]]) -> None:
    """A point in each curve, such as loss/test."""
    for row in rows:
        for key in ("loss", "accuracy", "learning_rate", "images_per_second"):
            if math.isfinite(row[key]):
                writer.add_scalar(f"{key}/{row['split']}", row[key], row["step"])
    writer.flush()
