"""Runs that meet a limit, lose keys, are interrupted, or are run again: nothing is lost and nothing is paid twice."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from storage.journal import Journal
from storage.store import ArtifactStore
from tasks.stage import RunContext
from tasks.teacher import keys, retries
from tests.fault_server import FaultServer, fault_server
from tests.reflection_cases import context_of, distil, summary, table
from thinkrec_core.errors import TeacherError

FIRST, SECOND = "sk-planted-first-key", "sk-planted-second-key"
TEACHER = {"requests_per_minute": 1_000_000, "timeout_seconds": 10.0}
ROWS = 20


@pytest.fixture(scope="module")
def server() -> Iterator[FaultServer]:
    with fault_server() as running:
        yield running


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retries, "_backoff", lambda state: 0.01)
    monkeypatch.setattr(keys, "FIRST_REST", 0.05)
    monkeypatch.setenv("THINKREC_TEACHER_API_KEY", FIRST)
    monkeypatch.setenv("SECOND_KEY", SECOND)


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(tmp_path / "store")


def run(store: ArtifactStore, server: FaultServer, share: float = 1.0, **teacher: Any) -> tuple[RunContext, Path]:
    """One run, as `thinkrec run` would do it; its console is recorded."""
    console = Console(record=True, width=300)
    reflections = {"max_failed_share": share}
    context = context_of(store, server.url, console, teacher={**TEACHER, **teacher}, reflections=reflections)
    return context, distil(context, ROWS)


def said(context: RunContext) -> str:
    assert context.view.console is not None
    return context.view.console.export_text(clear=False)


def kept(store: ArtifactStore) -> int:
    return len(Journal.of(store.root, "m"))


def finish(store: ArtifactStore, server: FaultServer, **teacher: Any) -> None:
    """A later run finishes, and over all runs no answer was lost or paid twice."""
    _, folder = run(store, server, **teacher)
    assert summary(folder)["accepted"] == ROWS
    account = server.account()
    assert account["billed"] == account["unique"] == kept(store)
    assert account["billed_twice"] == 0


# Keys


def test_several_keys_share_the_requests(store: ArtifactStore, server: FaultServer) -> None:
    server.plan()
    finish(store, server, api_key_env="THINKREC_TEACHER_API_KEY,SECOND_KEY")
    assert server.account()["keys"] == {FIRST: ROWS / 2, SECOND: ROWS / 2}


def test_a_variable_may_hold_several_keys_and_a_limited_one_rests(
    store: ArtifactStore, server: FaultServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("THINKREC_TEACHER_API_KEY", f"{FIRST}, {SECOND}")
    server.plan(limited_keys=[FIRST], delay=0.01)
    finish(store, server, attempts=1)
    account = server.account()
    assert account["keys"][SECOND] == ROWS
    assert account["keys"][FIRST] < ROWS


def test_a_refused_key_is_dropped_and_the_other_goes_on(store: ArtifactStore, server: FaultServer) -> None:
    server.plan(rejected_keys=[FIRST])
    finish(store, server, attempts=1, api_key_env="THINKREC_TEACHER_API_KEY,SECOND_KEY")
    assert server.account()["keys"] == {FIRST: 1, SECOND: ROWS}


def test_without_a_key_left_the_run_stops_and_the_next_goes_on(store: ArtifactStore, server: FaultServer) -> None:
    server.plan({"7": ["401"]})
    with pytest.raises(TeacherError) as caught:
        run(store, server, concurrency=1)
    assert "answered 401: refused as planned, key [key]; " in str(caught.value)
    assert "check the key in THINKREC_TEACHER_API_KEY" in str(caught.value)
    assert kept(store) == server.account()["billed"] == 7
    finish(store, server)


# Rate limits and time


def test_rate_limits_use_up_time_and_no_tries(store: ArtifactStore, server: FaultServer) -> None:
    server.plan({"3": ["429_after"] * 5, "4": ["429_after"] * 5})
    finish(store, server, attempts=1)
    assert server.account()["refused"] == 10


def test_a_rate_limit_that_stays_ends_with_the_time_of_the_request(store: ArtifactStore, server: FaultServer) -> None:
    server.plan({str(number): ["429_after"] * 99 for number in range(1, ROWS)})
    _, folder = run(store, server, request_seconds=1.5, concurrency=ROWS)
    ends = ("answered 429", "limits the rate for longer than", "took longer than teacher.request_seconds 1.5")
    for row in table(folder)[1:]:
        assert row["reason"].removeprefix("request failed: ").startswith(ends)


def test_a_run_out_of_time_stops_and_the_next_goes_on(store: ArtifactStore, server: FaultServer) -> None:
    server.plan(delay=0.1)
    with pytest.raises(
        TeacherError, match=r"teacher\.run_seconds 0\.35 are over; answers so far are kept: run the same"
    ):
        run(store, server, run_seconds=0.35, concurrency=2)
    account = server.account()
    assert 0 < account["billed"] == kept(store) < ROWS
    assert account["possibly"] == 0  # what was in flight was waited for
    finish(store, server)


# Money


def test_a_run_stops_before_it_spends_more_than_its_limit(store: ArtifactStore, server: FaultServer) -> None:
    server.plan(delay=0.01)
    limits = {"prices": {"m": {"input": 10.0, "output": 100.0}}, "max_tokens": 20}
    # 100 prompt and 10 answer tokens are billed per answer: 0.002. Three runs of seven answers each, and a little.
    for number in range(1, 3):
        with pytest.raises(TeacherError, match=r"teacher\.max_run_cost 0\.018 is reached: 0\.01\d* spent on answers"):
            run(store, server, max_run_cost=0.018, **limits)
        assert 5 * number <= kept(store) == server.account()["billed"] <= 9 * number
    finish(store, server, **limits)


def test_a_request_that_could_cost_too_much_is_not_sent(store: ArtifactStore, server: FaultServer) -> None:
    server.plan()
    prices = {"prices": {"m": {"input": 10.0, "output": 100.0}}}
    _, folder = run(store, server, max_request_cost=0.01, **prices)
    assert server.account()["asked"] == 0
    assert all(row["reason"].startswith("request failed: could cost 0.1") for row in table(folder))
    finish(store, server)


# Failed rows


def test_too_large_a_share_of_failed_rows_stops_the_run(store: ArtifactStore, server: FaultServer) -> None:
    server.plan({"0": []}, default=["500"] * 2)
    with pytest.raises(TeacherError) as caught:
        run(store, server, share=0.1, attempts=2, concurrency=1)
    assert "3 of 20 rows failed (the last: request failed: answered 500" in str(caught.value)
    assert "at most 10% (reflections.max_failed_share)" in str(caught.value)
    assert server.account()["asked"] == 1 + 3 * 2
    finish(store, server, attempts=3)


def test_rows_that_failed_are_asked_again_by_the_next_run(store: ArtifactStore, server: FaultServer) -> None:
    server.plan({"5": ["500"] * 2, "6": ["400"] * 9})
    first, folder = run(store, server, attempts=2)
    assert [row["row"] for row in table(folder) if not row["accepted"]] == [50, 60]
    asked = server.account()["asked"]
    again, folder = run(store, server, attempts=2)
    # The endpoint refuses row 60 itself: that alone is no reason to ask again.
    assert [row["reason"].split(":")[0] for row in table(folder) if not row["accepted"]] == ["request refused"]
    assert "1 rows failed on their way" in said(again)
    third, folder_of_third = run(store, server, attempts=2)
    assert [context.results["reflections"].status for context in (first, again, third)] == ["ran", "ran", "cached"]
    assert folder_of_third == folder
    assert server.account()["asked"] == asked + 1 + 1


def test_a_table_with_failed_rows_serves_where_the_teacher_is_gone(
    store: ArtifactStore, server: FaultServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.plan({"5": ["500"] * 2})
    _, folder = run(store, server, attempts=2)
    server.plan(rejected_keys=[FIRST])
    again, same = run(store, server, attempts=2)
    assert same == folder
    assert again.results["reflections"].status == "cached"
    assert "kept as it was: teacher at" in said(again)


# Ctrl-C


def interrupt(server: FaultServer, answers: int, flying: int, times: int = 1) -> threading.Thread:
    """Ctrl-C, `times` times, once the server has billed `answers` and works on `flying` more."""

    def wait() -> None:
        account = server.account()
        while account["billed"] < answers or account["flying"] < flying:
            time.sleep(0.02)
            account = server.account()
        for _ in range(times):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.1)

    thread = threading.Thread(target=wait)
    thread.start()
    return thread


def test_ctrl_c_waits_for_what_is_in_flight_and_the_next_run_goes_on(store: ArtifactStore, server: FaultServer) -> None:
    server.plan(delay=0.15)
    handler = signal.getsignal(signal.SIGINT)
    pressing = interrupt(server, 5, flying=2)
    console = Console(record=True, width=300)
    context = context_of(store, server.url, console, teacher={**TEACHER, "concurrency": 4})
    with pytest.raises(KeyboardInterrupt):
        distil(context, ROWS)
    pressing.join()
    assert signal.getsignal(signal.SIGINT) is handler
    assert "answers so far are kept: run the same command again to go on" in said(context)
    account = server.account()
    assert account["possibly"] == account["flying"] == 0
    assert 5 <= account["billed"] == kept(store) < ROWS
    finish(store, server)


def test_a_second_ctrl_c_cuts_what_is_in_flight(store: ArtifactStore, server: FaultServer) -> None:
    server.plan({str(number): ["hang"] for number in range(5, 9)})
    pressing = interrupt(server, 5, flying=4, times=2)
    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        run(store, server, concurrency=4)
    assert time.monotonic() - start < 9  # less than the time limit of a try
    pressing.join()
    account = server.account()
    assert account["billed"] == kept(store) == 5
    finish(store, server)
    assert server.account()["possibly"] == 4
