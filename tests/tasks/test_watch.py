from __future__ import annotations

import pickle
import time

from tasks.view import View
from tasks.watch import WatchedView, watching


def wait_for(told: list[tuple[float, str]], count: int) -> None:
    deadline = time.monotonic() + 5
    while len(told) < count and time.monotonic() < deadline:
        time.sleep(0.01)


def test_each_standstill_is_told_once_with_what_was_being_done() -> None:
    view, told = WatchedView(View()), []
    with watching(view, 0.1, lambda idle, doing: told.append((idle, doing))), view.progress("training", 9) as advance:
        advance(completed=1)
        wait_for(told, 1)
        for _ in range(20):  # a bar that is drawn again and does not move is no sign of life
            advance(completed=1)
            time.sleep(0.02)
        assert len(told) == 1
        advance(completed=2)
        wait_for(told, 2)
    assert [doing for _, doing in told] == ["training, 1 of 9", "training, 2 of 9"]
    assert all(idle >= 0.1 for idle, _ in told)


def test_a_run_that_moves_on_is_left_alone() -> None:
    view, told = WatchedView(View()), []
    with watching(view, 0.5, lambda *found: told.append(found)):
        for step in range(10):
            view.say(f"step {step}")
            time.sleep(0.05)
    assert not told


def test_in_another_process_it_is_a_silent_view() -> None:
    assert type(pickle.loads(pickle.dumps(WatchedView(View())))) is View
