"""How long work will take, learned from work that was done."""

from __future__ import annotations

from collections import Counter

LEARNING = 0.2
"""Weight of the newest piece of work."""
COLD = 1
"""Pieces of each kind that are not learned from: the first one fills caches and says little of the next."""


class Pace:
    """Seconds per row of each kind of work; 0 where nothing is known yet, so that nobody is refused on a guess."""

    def __init__(self) -> None:
        self.per_row: dict[str, float] = {}
        self._seen: Counter[str] = Counter()

    def seconds(self, kind: str, rows: int) -> float:
        """What `rows` rows will take."""
        return rows * self.per_row.get(kind, 0.0)

    def learn(self, kind: str, rows: int, seconds: float) -> None:
        """`rows` rows, one or more, took `seconds`."""
        self._seen[kind] += 1
        if self._seen[kind] > COLD:
            before = self.per_row.get(kind, seconds / rows)
            self.per_row[kind] = before + LEARNING * (seconds / rows - before)
