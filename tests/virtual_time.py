"""An event loop whose clock jumps to the next timer, for tests of waits."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any


class VirtualTime(asyncio.SelectorEventLoop):
    """Sleeps at once, in the order of real sleeps."""

    def __init__(self) -> None:
        super().__init__()
        self._now = 0.0

    def time(self) -> float:
        return self._now

    def _run_once(self) -> None:
        if not self._ready and self._scheduled:  # type: ignore[attr-defined]
            # A little past it, as real clocks are: what is exactly due may be a rounding error short of it.
            self._now = max(self._now, self._scheduled[0]._when) + 1e-6  # type: ignore[attr-defined]
        super()._run_once()  # type: ignore[misc]


def in_virtual_time(main: Coroutine[Any, Any, Any]) -> Any:
    """The result of `main`."""
    with asyncio.Runner(loop_factory=VirtualTime) as runner:
        return runner.run(main)


def now() -> float:
    """Seconds on the clock of the running loop."""
    return asyncio.get_running_loop().time()
