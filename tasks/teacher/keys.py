"""The keys of one endpoint: used in turn, rested where a rate limit was met, retired where they are refused."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

FIRST_REST, LONGEST_REST = 1.0, 60.0
"""Seconds that a key rests after a 429 without Retry-After: doubled from the first to the longest."""


@dataclass(eq=False)
class Key:
    """One key and what became of it."""

    secret: str = field(repr=False)
    rests_until: float = 0.0
    strikes: int = 0
    """Rate limits met in a row, those of one rest counted once."""
    retired: bool = False


class NoKeyInTime(Exception):
    """All keys rest for longer than the request may take."""


class NoKeyLeft(Exception):
    """Every key was refused."""


class KeyRing:
    """Keys in turn; without any, one empty key stands for "none needed".

    Args:
        keys: the secrets.
        clock: seconds on a clock that never goes back.
    """

    def __init__(self, keys: Sequence[str], clock: Callable[[], float] = time.monotonic) -> None:
        self._keys = [Key(secret) for secret in keys or [""]]
        self._clock = clock

    @property
    def alive(self) -> int:
        """Keys that were not refused."""
        return sum(not key.retired for key in self._keys)

    async def awake(self, deadline: float) -> Key:
        """The next key that does not rest, not taken yet; waits for one where all do.

        Raises:
            NoKeyInTime: none is there before `deadline` on the clock.
            NoKeyLeft: all were retired.
        """
        while True:
            now, alive = self._clock(), [key for key in self._keys if not key.retired]
            for key in alive:
                if key.rests_until <= now:
                    return key
            if not alive:
                raise NoKeyLeft
            ready = min(key.rests_until for key in alive)
            if ready > deadline:
                raise NoKeyInTime
            await asyncio.sleep(ready - now)

    async def acquire(self, deadline: float) -> Key:
        """As `awake`, and the key goes to the end of the row."""
        key = await self.awake(deadline)
        self._keys.remove(key)
        self._keys.append(key)
        return key

    def rest(self, key: Key, seconds: float | None) -> None:
        """`key` met a rate limit: it rests for `seconds`, or for a time that doubles with each limit in a row."""
        now = self._clock()
        if now >= key.rests_until:
            key.strikes += 1
        if seconds is None:
            seconds = min(FIRST_REST * 2.0 ** (key.strikes - 1), LONGEST_REST) * random.uniform(1.0, 1.25)
        key.rests_until = max(key.rests_until, now + seconds)

    def answered(self, key: Key) -> None:
        """`key` was served: its next rest is short again."""
        key.strikes = 0

    def retire(self, key: Key) -> None:
        """`key` was refused and is used no more."""
        key.retired = True
