"""Scores, labels and users as arrays that the figures can trust."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from thinkrec_core.errors import DataError

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


def checked_scores(scores: npt.ArrayLike, rows: int, name: str = "scores") -> FloatArray:
    """`scores` as (rows,) float64.

    Raises:
        DataError: another length, or a value that is no finite number.
    """
    array = np.asarray(scores, dtype=np.float64)
    if array.shape != (rows,):
        raise DataError(f"{name} has shape {array.shape}", f"({rows},), one score per row")
    bad = np.flatnonzero(~np.isfinite(array))
    if bad.size:
        raise DataError(f"{name} holds {array[bad[0]]} at row {bad[0]} ({bad.size} such rows)", "finite scores")
    return array


def checked_labels(labels: npt.ArrayLike) -> IntArray:
    """`labels` as (R,) int64 of zeros and ones.

    Raises:
        DataError: no rows, or another value.
    """
    array = np.asarray(labels)
    if array.ndim != 1 or array.size == 0:
        raise DataError(f"labels have shape {array.shape}", "at least one row to evaluate")
    bad = np.flatnonzero((array != 0) & (array != 1))
    if bad.size:
        raise DataError(f"label {array[bad[0]]} at row {bad[0]}", "0 or 1")
    return array.astype(np.int64)


def checked_users(users: npt.ArrayLike, rows: int) -> IntArray:
    """`users` as (rows,) int64.

    Raises:
        DataError: another length.
    """
    array = np.asarray(users)
    if array.shape != (rows,):
        raise DataError(f"users have shape {array.shape}", f"({rows},), one user per row")
    return array.astype(np.int64)
