"""What a person sees while stages run: lines and progress bars, or nothing under --json."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

Advance = Callable[..., None]


class View:
    """Lines and progress on `console`; without a console every call is silent."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console
        self._lock = threading.Lock()
        self._shown: Progress | None = None
        self._bars = 0

    def __reduce__(self) -> tuple[type[View], tuple[()]]:
        # Stages that run in another process have no terminal.
        return View, ()

    def say(self, text: str) -> None:
        """Print one line; rich markup in `text` is escaped."""
        if self.console is not None:
            self.console.print(text, markup=False, highlight=False)

    @contextlib.contextmanager
    def progress(self, description: str, total: int) -> Iterator[Advance]:
        """A bar of `total` steps; the yielded function takes (completed=..., note=...). Bars of several threads stand together."""
        if self.console is None or not self.console.is_terminal:
            yield lambda completed=None, note="": None
            return
        with self._lock:
            bar = self._shown = self._shown or Progress(*_columns(), console=self.console, transient=True)
            self._bars += 1
            bar.start()
        task = bar.add_task(description, total=total, note="")
        try:
            yield lambda completed=None, note="": bar.update(task, completed=completed, note=note)
        finally:
            bar.refresh()  # short work ends between two refreshes
            bar.remove_task(task)
            with self._lock:
                self._bars -= 1
                if not self._bars:
                    bar.stop()
                    self._shown = None


def _columns() -> tuple[ProgressColumn, ...]:
    return (
        TextColumn("  {task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
