"""Shuffled references: what a metric gives to a text beside the reference of another row, its floor."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

SHUFFLES = 5
"""Strange references per row; their mean is less noisy than one."""


def strangers(rows: int, generator: np.random.Generator, shuffles: int = SHUFFLES) -> npt.NDArray[np.int64]:
    """(K, rows) other rows for each row: K derangements, no row ever beside itself nor twice beside the same one.

    The rows stand in one random circle and each looks k places ahead. K is `shuffles`, or rows - 1 where there are fewer rows.
    """
    circle = generator.permutation(rows)
    found = np.empty((max(0, min(shuffles, rows - 1)), rows), dtype=np.int64)
    for k in range(len(found)):
        found[k, circle] = np.roll(circle, -(k + 1))
    return found
