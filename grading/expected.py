"""The numbers that answers are compared with, for every question: what is right, and what well-known mistakes give.

They are computed here from the formulas in `oracle`. The handout for students has a file of these arrays instead of
this one, so that it gives no formula away: a check reads them from `Context.expected` and holds no formula itself.
"""

from __future__ import annotations

import numpy as np

from grading import expected_1_2, expected_2_1, expected_3, expected_4a
from grading.inputs import Inputs


def values(inputs: Inputs) -> dict[str, np.ndarray]:
    """{'1.2 linear forward': array, '1.2 linear forward: bias not added': array, ...}.

    A name starts with its question's number; what a mistake gives has the mistake's name after a colon.
    """
    return (expected_1_2.values(inputs) | expected_2_1.values(inputs) | expected_3.values(inputs)
            | expected_4a.values(inputs))
