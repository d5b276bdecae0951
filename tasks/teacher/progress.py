"""What a person sees while the teacher is asked: done, in flight, rejected, spent, and when it will be over."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

from tasks.teacher.conversations import Call
from tasks.view import View
from thinkrec_core.config.reflections import TeacherConfig
from thinkrec_core.reflection.dialogue import Dialogue
from thinkrec_core.report.words import money

LINE_SECONDS = 15.0
"""Between two lines where there is no terminal to draw a bar on."""


class Progress:
    """Counts of the dialogues of one stage.

    Args:
        config: concurrency and the price are used.
        dialogues: all of the stage; those that the journal finished count as done from the start.
        show: called with (done, note) after every change.
        clock: seconds; for tests.
    """

    def __init__(
        self,
        config: TeacherConfig,
        dialogues: Sequence[Dialogue],
        show: Callable[[int, str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._config, self._show, self._clock = config, show, clock
        self._status = Counter(dialogue.status for dialogue in dialogues)
        self._total, self._start = len(dialogues), clock()
        self._prompt_tokens = self._completion_tokens = 0
        self._first = self.done

    @property
    def done(self) -> int:
        """Dialogues that are over."""
        return self._total - self._status["open"]

    def called(self, call: Call) -> None:
        """One more answer, or failure, of the teacher."""
        self._prompt_tokens += call.response.get("prompt_tokens", 0)
        self._completion_tokens += call.response.get("completion_tokens", 0)
        self._show(self.done, self.note())

    def finished(self, dialogue: Dialogue) -> None:
        """One more dialogue that is over."""
        self._status["open"] -= 1
        self._status[dialogue.status] += 1
        self._show(self.done, self.note())

    def note(self) -> str:
        """In flight, rejected, spent now."""
        flying = min(self._config.concurrency, self._status["open"])
        tokens, price = (self._prompt_tokens, self._completion_tokens), self._config.price
        spent = money(price.cost(*tokens)) if price else f"{sum(tokens):,} tokens"
        return f"in flight {flying}, rejected {self._status['rejected']}, spent {spent}"

    def line(self) -> str:
        """All of it as one line, with the time that is left by the speed so far."""
        new = self.done - self._first
        line = f"reflections {self.done}/{self._total}, {self.note()}"
        if not new or not self._status["open"]:
            return line
        return f"{line}, ETA {_span((self._clock() - self._start) / new * self._status['open'])}"


@contextlib.contextmanager
def showing_progress(view: View, config: TeacherConfig, dialogues: Sequence[Dialogue]) -> Iterator[Progress]:
    """A bar on a terminal, which shows the time left by itself; elsewhere a line now and then, and one at the end."""
    if view.console is not None and view.console.is_terminal:
        with view.progress("reflections", len(dialogues)) as advance:
            bar = Progress(config, dialogues, lambda done, note: advance(completed=done, note=note))
            advance(completed=bar.done, note=bar.note())
            yield bar
        return
    told = time.monotonic()

    def now_and_then(done: int, note: str) -> None:
        nonlocal told
        if time.monotonic() - told >= LINE_SECONDS or done == len(dialogues):
            told = time.monotonic()
            view.say(f"  {lines.line()}")

    lines = Progress(config, dialogues, now_and_then)
    yield lines


def _span(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
