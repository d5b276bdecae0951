"""How fast requests go out: requests and tokens per minute, spread evenly instead of in one burst per minute."""

from __future__ import annotations

from aiolimiter import AsyncLimiter

TOKEN_BURST = 6.0
"""Seconds of the token allowance that may go out at once."""


class Pace:
    """Limits of one client.

    A request counts with its whole answer budget when it goes out, as endpoints count; what it did not use is given back
    to those after it. A request larger than the burst waits until all of it has come together.

    Args:
        requests_per_minute: of all keys together.
        tokens_per_minute: prompts and answers; None for no limit.
    """

    def __init__(self, requests_per_minute: int, tokens_per_minute: int | None) -> None:
        per_second = requests_per_minute / 60
        self._requests = AsyncLimiter(max(per_second, 1.0), max(1.0, 1.0 / per_second))
        self._burst = max(tokens_per_minute * TOKEN_BURST / 60, 1.0) if tokens_per_minute else 0.0
        self._tokens = AsyncLimiter(self._burst, TOKEN_BURST) if tokens_per_minute else None
        self._owed = 0.0

    async def enter(self, tokens: int) -> None:
        """Return when a request that may use `tokens` in all may go out."""
        if self._tokens is not None:
            # Pay before the first wait, so that nothing given back is spent twice.
            due, self._owed = max(0.0, tokens + self._owed), min(0.0, tokens + self._owed)
            while due > 0:
                part = min(due, self._burst)
                await self._tokens.acquire(part)
                due -= part
        await self._requests.acquire()

    def settle(self, reserved: int, used: int) -> None:
        """A request that entered with `reserved` tokens used `used` of them."""
        self._owed += used - reserved
