"""A run that makes no progress: a view that notes each sign of life, and a thread that speaks up when there was none for long."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from tasks.view import Advance, View


class WatchedView(View):
    """Passes everything on to `view`; a line, or a bar that moves on, is a sign of life. One that repeats its number is none."""

    def __init__(self, view: View) -> None:
        super().__init__(view.console)
        self._view = view
        self.last, self.doing = time.monotonic(), "starting"

    def say(self, text: str) -> None:
        """Print one line."""
        self._alive(text)
        self._view.say(text)

    @contextlib.contextmanager
    def progress(self, description: str, total: int) -> Iterator[Advance]:
        """A bar of `total` steps."""
        self._alive(description)
        reached: int | None = None
        with self._view.progress(description, total) as advance:

            def watched(completed: int | None = None, note: str = "") -> None:
                nonlocal reached
                if completed != reached:
                    reached = completed
                    self._alive(f"{description}, {completed} of {total}")
                advance(completed=completed, note=note)

            yield watched

    def _alive(self, doing: str) -> None:
        self.last, self.doing = time.monotonic(), doing.strip()


@contextlib.contextmanager
def watching(view: WatchedView, seconds: float, stuck: Callable[[float, str], Any]) -> Iterator[None]:
    """Call `stuck(seconds without a sign of life, last sign)` once per standstill of `seconds` while the block runs."""
    done = threading.Event()

    def watch() -> None:
        told = -1.0
        while not done.wait(max(0.02, min(seconds / 10, 30.0))):
            idle = time.monotonic() - view.last
            if idle >= seconds and told != view.last:
                told = view.last
                stuck(idle, view.doing)

    thread = threading.Thread(target=watch, name="thinkrec-watch", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
