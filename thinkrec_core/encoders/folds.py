"""Folds of equal size, dealt at random."""

from __future__ import annotations

import numpy as np

from thinkrec_core.encoders.examples import IntArray


def deal(count: int, folds: int, draw: np.random.Generator) -> IntArray:
    """(count,) the fold 0..folds-1 of each of `count` things."""
    return draw.permutation(np.arange(count) % folds)


def deal_users(users: IntArray, folds: int, draw: np.random.Generator) -> IntArray:
    """(R,) the fold of each row's user, `users` (R,); folds hold equal numbers of users."""
    distinct, inverse = np.unique(users, return_inverse=True)
    return deal(len(distinct), folds, draw)[inverse]
