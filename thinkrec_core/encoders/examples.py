"""What an encoder is trained and scored on: arrays of rows, and their liked histories as padded matrices."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np
import numpy.typing as npt

from thinkrec_core.errors import DataError

if TYPE_CHECKING:
    from torch import Tensor

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Sizes:
    """How many users and items there are; tables have one more row, for the padding index 0."""

    users: int
    """U; user_idx is 1..U."""
    items: int
    """I; item_idx is 1..I."""


@dataclass(frozen=True)
class Likes:
    """What encoders know of the train likes beside the rows themselves."""

    edges_2E: Tensor
    """(2, E) int32: user_idx and item_idx of every train like, in time order."""
    user_histories_UL: Tensor
    """(U+1, L) int64: the newest train likes of each user, newest last, 0 on the left."""


@dataclass(frozen=True)
class Examples:
    """R rows in time order. Histories are ragged: row i owns the slice offsets[i]:offsets[i+1].

    Raises:
        DataError: lengths that do not fit together, or a label other than 0 and 1.
    """

    user_idx: IntArray
    """(R,) 1..U."""
    item_idx: IntArray
    """(R,) 1..I, the target."""
    label: IntArray
    """(R,) 0 or 1."""
    history_offsets: IntArray
    """(R+1,)."""
    history_items: IntArray
    """(sum of lengths,) oldest first."""
    history_labels: IntArray
    """(sum of lengths,)."""

    def __post_init__(self) -> None:
        rows = len(self.label)
        lengths = (len(self.user_idx), len(self.item_idx), len(self.history_offsets) - 1)
        if lengths != (rows, rows, rows) or len(self.history_items) != len(self.history_labels):
            raise DataError(f"examples with {rows} labels and arrays of lengths {lengths}", "equal lengths")
        wrong = np.flatnonzero((self.label != 0) & (self.label != 1))
        if wrong.size:
            raise DataError(f"label {self.label[wrong[0]]} in row {wrong[0]}", "0 or 1")

    def __len__(self) -> int:
        return len(self.label)

    def rows(self, chosen: npt.NDArray[np.bool_]) -> Self:
        """The rows where `chosen` (R,) is true, in the same order, with their histories."""
        lengths = np.diff(self.history_offsets)
        entries = np.repeat(chosen, lengths)
        return type(self)(
            self.user_idx[chosen],
            self.item_idx[chosen],
            self.label[chosen],
            np.concatenate([[0], np.cumsum(lengths[chosen])]),
            self.history_items[entries],
            self.history_labels[entries],
        )

    def part(self, first: int, last: int) -> Self:
        """The rows first..last-1, their histories not copied."""
        rows, offsets = slice(first, last), self.history_offsets[first : last + 1]
        entries = slice(offsets[0], offsets[-1])
        return type(self)(
            self.user_idx[rows],
            self.item_idx[rows],
            self.label[rows],
            offsets - offsets[0],
            self.history_items[entries],
            self.history_labels[entries],
        )

    def liked_histories(self, length: int) -> IntArray:
        """(R, length) the newest liked history items of each row, newest last, padded with 0 on the left."""
        liked = self.history_labels == 1
        before = np.concatenate([[0], np.cumsum(liked)])
        return _left_padded(self.history_items[liked], before[self.history_offsets], length)

    def last_likes(self, users: int, length: int) -> IntArray:
        """(users+1, length) the newest liked targets of each user in these rows, newest last, 0 on the left."""
        liked = self.label == 1
        order = np.argsort(self.user_idx[liked], kind="stable")  # stable: rows are in time order
        counts = np.bincount(self.user_idx[liked], minlength=users + 1)
        return _left_padded(self.item_idx[liked][order], np.concatenate([[0], np.cumsum(counts)]), length)


def _left_padded(values: IntArray, offsets: IntArray, length: int) -> IntArray:
    """(R, length) the last `length` values of each slice offsets[i]:offsets[i+1], right-aligned, 0 elsewhere."""
    place_RL = offsets[1:, None] - np.arange(length, 0, -1)[None, :]
    inside_RL = place_RL >= offsets[:-1, None]
    if not len(values):
        return np.zeros(place_RL.shape, np.int64)
    return np.where(inside_RL, values[np.where(inside_RL, place_RL, 0)], 0)
