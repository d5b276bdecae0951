"""What a person sees while the teacher is asked."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

import pytest
from rich.console import Console

from tasks.teacher import progress
from tasks.teacher.conversations import Call
from tasks.teacher.progress import Progress, showing_progress
from tasks.view import View
from thinkrec_core.config.reflections import TeacherConfig
from thinkrec_core.config.root import ThinkRecConfig
from thinkrec_core.reflection.dialogue import Dialogue, Rules
from thinkrec_core.reflection.prompts import Case
from thinkrec_core.seeds import generator

CONFIG = TeacherConfig.model_validate(
    {"base_url": "https://h/v1", "model": "m", "concurrency": 4, "prices": {"m": {"input": 10, "output": 100}}}
)


def dialogues(count: int) -> list[Dialogue]:
    rules = Rules.of(CONFIG, ThinkRecConfig().reflections)
    return [Dialogue.start(Case(1, f"Item {n}", "", ()), rules, generator(0, "h", n)) for n in range(count)]


def call(tokens: int = 1000) -> Call:
    return Call(0, 1, {}, {"prompt_tokens": tokens, "completion_tokens": tokens}, "ok", False, 0.5, 1)


def test_done_in_flight_rejected_spent_and_the_time_left() -> None:
    now, shown = [100.0], list[Any]()
    started = dialogues(10)
    started[0] = started[0].fail("in an earlier run")
    bar = Progress(CONFIG, started, lambda done, note: shown.append((done, note)), lambda: now[0])
    assert bar.line() == "reflections 1/10, in flight 4, rejected 1, spent 0.00"
    for number in range(1, 7):
        now[0] += 20
        bar.called(call())
        over = started[number]
        bar.finished(over.fail("no") if number == 3 else replace(over, status="accepted"))
    # Six new ones in 120 s: the three that are left take 60 s.
    assert bar.line() == "reflections 7/10, in flight 3, rejected 2, spent 0.66, ETA 60 s"
    assert shown[-1] == (7, "in flight 3, rejected 2, spent 0.66")


@pytest.mark.parametrize(
    ("seconds", "told"), [(1, "1 s"), (89, "89 s"), (600, "10 min"), (5399, "90 min"), (9000, "2.5 h")]
)
def test_the_time_left_in_words(seconds: float, told: str) -> None:
    assert progress._span(seconds) == told


def test_tokens_stand_for_money_where_no_price_is_known() -> None:
    bar = Progress(TeacherConfig(), dialogues(2), lambda done, note: None)
    bar.called(call(1234))
    assert bar.note().endswith("spent 2,468 tokens")
    bar.called(Call(0, 1, {}, {"error": "down"}, "failed", False, 0.0, 0))
    assert bar.note().endswith("spent 2,468 tokens")


def test_without_a_terminal_lines_come_now_and_then_and_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    written = io.StringIO()
    started = dialogues(5)
    with showing_progress(View(Console(file=written, width=120)), CONFIG, started) as bar:
        for dialogue in started:
            now[0] += 8
            bar.called(call())
            bar.finished(dialogue.fail("x"))
    lines = written.getvalue().splitlines()
    assert [line.split(",")[0].strip() for line in lines] == ["reflections 1/5", "reflections 3/5", "reflections 5/5"]
    assert "ETA" in lines[1]
    assert "ETA" not in lines[2]


def test_on_a_terminal_a_bar_shows_the_same() -> None:
    written = io.StringIO()
    started = dialogues(3)
    console = Console(file=written, width=160, force_terminal=True)
    with showing_progress(View(console), CONFIG, started) as bar:
        bar.called(call())
        bar.finished(started[0].fail("x"))
    assert "1/3" in written.getvalue()
    assert "in flight 2, rejected 1, spent 0.11" in written.getvalue()
