"""The reflections stage against a server process that fails on command: each fault alone, then random mixes."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage.journal import Journal
from storage.store import ArtifactStore
from tasks.teacher import keys, retries
from tests.fault_server import FAULTS, REFUSALS, FaultServer, fault_server
from tests.reflection_cases import context_of, distil, table
from thinkrec_core.reflection.dialogue import REASONS

KEY = "sk-planted-2c8e11f0"
ROWS = 8
TEACHER = {"timeout_seconds": 20.0, "attempts": 2, "requests_per_minute": 100_000, "concurrency": 8}


@pytest.fixture(scope="module")
def server() -> Iterator[FaultServer]:
    with fault_server() as running:
        yield running


@pytest.fixture(scope="module", autouse=True)
def _environment() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(retries, "_backoff", lambda state: 0.01)
        patch.setattr(keys, "FIRST_REST", 0.05)
        patch.setenv("THINKREC_TEACHER_API_KEY", KEY)
        yield


def reflect(root: Path, server: FaultServer, **teacher: Any) -> list[dict[str, Any]]:
    """The table of a run in the store `root`, after the checks that hold whatever the server did."""
    store = ArtifactStore(root)
    rows = table(distil(context_of(store, server.url, teacher={**TEACHER, **teacher}), ROWS))
    assert [row["row"] for row in rows] == [10 * number for number in range(ROWS)]
    assert all(row["accepted"] == (row["reason"] == "") for row in rows)
    assert all(row["accepted"] or row["reason"].split(":")[0] in REASONS for row in rows)
    account = server.account()
    journal = Journal.of(store.root, "m")
    assert account["billed"] == len(journal)
    assert account["billed_twice"] == 0
    assert account["billed"] <= account["unique"]
    assert not journal.damaged
    return rows


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("429", ""),
        ("429_after", ""),
        ("500", ""),
        ("503", ""),
        ("503_after", ""),
        ("400", "request refused: answered 400"),
        ("cut", ""),
        ("hang", ""),
        ("drip", ""),
        ("slow", ""),
        ("wrong", ""),
        ("both", ""),
        ("empty", ""),
        ("reasoning_only", ""),
        ("invalid_json", ""),
        ("huge", "long trace: "),
    ],
)
def test_each_fault_alone_ends_in_one_row_and_loses_no_answer(
    tmp_path: Path, server: FaultServer, fault: str, reason: str
) -> None:
    server.plan({"0": []}, default=[fault])
    in_time = fault not in ("cut", "hang", "drip")
    rows = reflect(tmp_path, server, timeout_seconds=20.0 if in_time else 2.0)
    assert rows[0]["accepted"]
    assert all(row["reason"].startswith(reason) and row["accepted"] == (reason == "") for row in rows[1:])
    account = server.account()
    assert account["possibly"] == (0 if in_time else ROWS - 1)
    assert account["refused"] == (ROWS - 1 if fault[0].isdigit() else 0)


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("500", "request failed: answered 500: refused as planned, key [key] (2 tries)"),
        ("cut", "request failed: broke the connection"),
        ("hang", "request failed: did not answer within 2 s (2 tries)"),
        ("wrong", "wrong verdict: after round 7"),
        ("empty", "empty answer"),
        ("invalid_json", "unreadable answer"),
    ],
)
def test_a_fault_that_stays_is_the_reason_of_its_row(
    tmp_path: Path, server: FaultServer, fault: str, reason: str
) -> None:
    server.plan({"3": [fault] * 20})
    rows = reflect(tmp_path, server, timeout_seconds=2.0 if fault == "hang" else 20.0)
    assert rows[3]["reason"].startswith(reason)
    assert sum(row["accepted"] for row in rows) == ROWS - 1


def plans(*excluded: str) -> st.SearchStrategy[dict[str, list[str]]]:
    """Faults of each row in turn. 401 would end the run; `drip` is a `hang` that takes as long."""
    faults = st.sampled_from([fault for fault in FAULTS if fault not in ("401", "drip", "right", *excluded)])
    return st.dictionaries(st.integers(0, ROWS - 1).map(str), st.lists(faults, max_size=6), max_size=ROWS)


def mixed(server: FaultServer, faults: dict[str, list[str]], concurrency: int, seconds: float) -> None:
    # The first request decides whether this is a teacher at all: see the client's tests.
    ends_all = {*REFUSALS, "cut", "hang"}
    server.plan({**faults, "0": [fault for fault in faults.get("0", []) if fault not in ends_all]})
    with tempfile.TemporaryDirectory() as folder:
        reflect(Path(folder), server, concurrency=concurrency, timeout_seconds=seconds)


@given(faults=plans("hang"), concurrency=st.sampled_from([1, 3, 8]))
@settings(max_examples=10, derandomize=True, deadline=None)
def test_a_random_mix_of_faults_ends_in_one_row_each_and_loses_no_answer(
    server: FaultServer, faults: dict[str, list[str]], concurrency: int
) -> None:
    mixed(server, faults, concurrency, seconds=20.0)


@pytest.mark.slow
@given(faults=plans(), concurrency=st.sampled_from([3, 8]))
@settings(max_examples=60, derandomize=True, deadline=None)
def test_many_random_mixes(server: FaultServer, faults: dict[str, list[str]], concurrency: int) -> None:
    mixed(server, faults, concurrency, seconds=4.0)
