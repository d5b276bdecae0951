"""What is known of a user at a time: the labels of the user's train rows that came before."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np

from thinkrec_core.encoders.examples import Examples, IntArray


@dataclass(frozen=True)
class TimedExamples:
    """Rows and when they happened."""

    rows: Examples
    timestamp: IntArray
    """(R,) seconds."""


@dataclass(frozen=True)
class KnownLabels:
    """The train labels of all users, each user's in time order."""

    items: IntArray
    """(R,) item_idx."""
    labels: IntArray
    """(R,) 0 or 1."""
    start: IntArray
    """(U+2,): user u owns the places start[u]:start[u+1]."""

    @classmethod
    def of(cls, train: TimedExamples, users: int) -> Self:
        """Those of `train`, whose user_idx is 1..users."""
        rows = train.rows
        order = np.lexsort((train.timestamp, rows.user_idx))
        start = np.searchsorted(rows.user_idx[order], np.arange(users + 2))
        return cls(rows.item_idx[order], rows.label[order], start)

    def all(self, users: IntArray) -> IntArray:
        """(R,) the place behind the last label of each user."""
        return self.start[users + 1]

    def entries(self, users: IntArray, until: IntArray) -> tuple[IntArray, IntArray, IntArray]:
        """(offsets (R+1,), items, labels) of what is known of each user up to the place `until`, oldest first."""
        start = self.start[users]
        offsets = np.concatenate([[0], np.cumsum(until - start)])
        place = np.repeat(start - offsets[:-1], until - start) + np.arange(offsets[-1])
        return offsets, self.items[place], self.labels[place]


def draw_known(train: TimedExamples, known: KnownLabels, unknown_users: float, draw: np.random.Generator) -> IntArray:
    """(R,) for each train row the place up to which its user's labels count as known, so that it looks as a test row will.

    Known is what came strictly before a random time between the user's first train row and the row; nothing for a share
    `unknown_users` of the rows, since many test users have no train rows at all.
    """
    users, time = train.rows.user_idx, train.timestamp
    times = time[np.lexsort((time, users))]
    first = times[known.start[users]]
    share, unknown = draw.random(len(users)), draw.random(len(users)) < unknown_users
    cut_off = np.where(unknown, first, first + ((time - first) * share).astype(np.int64))
    scale = int(times.max()) + 2
    owner = np.repeat(np.arange(len(known.start) - 1), np.diff(known.start))
    return np.searchsorted(owner * scale + times, users * scale + cut_off)
