"""A run that is killed with -9 again and again ends with the table of a run that nobody disturbed."""

from __future__ import annotations

import multiprocessing
import os
import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from storage.journal import Journal
from tests.fault_server import FaultServer, fault_server
from tests.reflection_cases import reflect_once

CONCURRENCY = 16
MODULES = ["tests.reflection_cases", "tasks.teacher.client"]


@pytest.fixture(scope="module")
def server() -> Iterator[FaultServer]:
    with fault_server() as running:
        yield running


def killed_and_finished(root: Path, server: FaultServer, rows: int, kills: int) -> None:
    server_plan = {str(item): ["wrong"] * (item % 4) for item in range(rows)}
    total = sum(1 + item % 4 for item in range(rows))
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(MODULES)  # the imports take longer than the runs

    def start(store: Path) -> multiprocessing.process.BaseProcess:
        process = processes.Process(target=reflect_once, args=(store, server.url, rows, CONCURRENCY))
        process.start()
        return process

    server.plan(server_plan)
    calm = start(root / "calm")
    calm.join()
    assert calm.exitcode == 0
    assert server.account()["billed"] == total

    server.plan(server_plan, delay=0.02)
    # A kill in each of `kills` equal parts of the work, somewhere within it.
    chance, lost = random.Random(rows), 0
    for number in range(kills):
        process = start(root / "killed")
        goal = (number + chance.random()) * total / (kills + 1)
        while (before := server.account())["billed"] < goal:
            assert process.is_alive()
            time.sleep(0.005)
        process.kill()
        process.join()
        while (after := server.account())["flying"]:
            time.sleep(0.01)
        assert after["billed"] + after["possibly"] >= before["billed"]
        journal = Journal.of(root / "killed", "m")
        # Answers that were sent, and on their way to the disk: those in flight at this kill.
        assert lost <= after["billed"] - len(journal) <= lost + CONCURRENCY
        lost = after["billed"] - len(journal)
    last = start(root / "killed")
    last.join()
    assert last.exitcode == 0

    account = server.account()
    assert account["unique"] == total == len(Journal.of(root / "killed", "m"))
    assert account["billed_twice"] == account["billed"] - total == lost <= kills * CONCURRENCY
    tables = [next((root / store).glob("artifacts/reflections/*/reflections.parquet")) for store in ("calm", "killed")]
    assert tables[0].read_bytes() == tables[1].read_bytes()


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server of processes is one of its own and knows no pythonpath of pytest."""
    root = str(Path(__file__).resolve().parents[2])
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH")))))


def test_three_kills_change_nothing(tmp_path: Path, server: FaultServer) -> None:
    killed_and_finished(tmp_path, server, rows=60, kills=3)


@pytest.mark.slow
def test_twenty_kills_change_nothing(tmp_path: Path, server: FaultServer) -> None:
    killed_and_finished(tmp_path, server, rows=500, kills=20)
