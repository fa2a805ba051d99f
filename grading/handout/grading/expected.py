"""The numbers that answers are compared with: recorded, for the inputs of the public seed."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from grading.inputs import Inputs


def values(inputs: Inputs) -> dict[str, np.ndarray]:
    """{name: array}; a name starts with its question's number."""
    with np.load(Path(__file__).with_name("expected.npz"), allow_pickle=False) as file:
        return {name: file[name] for name in file.files}
