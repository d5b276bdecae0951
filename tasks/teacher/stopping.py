"""How the asking ends before all is asked: gently, with what is in flight, or at once."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Callable, Iterator, Sequence
from typing import Any

SECONDS_TO_FINISH = 30.0
"""What is in flight may take so long after a stop; then it is cut, and may be billed without an answer."""


class Stopping:
    """A switch with the reason that first threw it.

    Attributes:
        reason: what to raise once the asking has ended; None while nobody stopped it.
    """

    def __init__(self) -> None:
        self.reason: BaseException | None = None
        self._thrown = asyncio.Event()
        self._cut = asyncio.Event()
        self._others: list[Callable[[], None]] = []

    def __call__(self, reason: BaseException) -> None:
        """Stop for `reason`; later reasons change nothing."""
        if self.reason is None:
            self.reason = reason
            self._thrown.set()
            for tell in self._others:
                tell()

    def also(self, tell: Callable[[], None]) -> None:
        """Call `tell` when the switch is thrown; at once where it was."""
        self._others.append(tell)
        if self.reason is not None:
            tell()

    def cut(self) -> None:
        """Do not wait for what is in flight."""
        self._cut.set()

    async def until_done(self, crew: Sequence[asyncio.Task[Any]]) -> None:
        """Return when every task of `crew` has ended: by itself, or after a stop within the time to finish."""
        thrown, cut = (asyncio.ensure_future(event.wait()) for event in (self._thrown, self._cut))
        everyone: asyncio.Future[Any] = asyncio.ensure_future(asyncio.wait(crew))
        try:
            await asyncio.wait([everyone, thrown], return_when=asyncio.FIRST_COMPLETED)
            if not everyone.done():
                waiting: set[asyncio.Future[Any]] = {everyone, cut}
                await asyncio.wait(waiting, timeout=SECONDS_TO_FINISH, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (*crew, thrown, cut):
                task.cancel()
            await asyncio.gather(everyone, thrown, cut, return_exceptions=True)

    @contextlib.contextmanager
    def on_interrupt(self, told: Callable[[], None]) -> Iterator[None]:
        """Ctrl-C stops, and a second one cuts; outside the main thread both stay as they were.

        Args:
            told: called at the first.
        """
        loop = asyncio.get_running_loop()

        def interrupted() -> None:
            if self.reason is None:
                told()
                self(KeyboardInterrupt())
            else:
                self.cut()

        before = signal.getsignal(signal.SIGINT)
        try:
            loop.add_signal_handler(signal.SIGINT, interrupted)
        except (ValueError, RuntimeError):  # not the main thread: whoever owns it decides
            yield
            return
        try:
            yield
        finally:
            loop.remove_signal_handler(signal.SIGINT)
            if before is not None:
                signal.signal(signal.SIGINT, before)
