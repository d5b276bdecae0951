"""What a person sees while stages run: lines and progress bars, or nothing under --json."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

Advance = Callable[..., None]


class View:
    """Lines and progress on `console`; without a console every call is silent."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console

    def say(self, text: str) -> None:
        """Print one line; rich markup in `text` is escaped."""
        if self.console is not None:
            self.console.print(text, markup=False, highlight=False)

    @contextlib.contextmanager
    def progress(self, description: str, total: int) -> Iterator[Advance]:
        """A bar of `total` steps; the yielded function takes (completed=..., note=...)."""
        if self.console is None or not self.console.is_terminal:
            yield lambda completed=None, note="": None
            return
        columns = (
            TextColumn("  {task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
        )
        with Progress(*columns, console=self.console, transient=True) as bar:
            task = bar.add_task(description, total=total, note="")

            def update(completed: int | None = None, note: str = "") -> None:
                bar.update(task, completed=completed, note=note)

            yield update
