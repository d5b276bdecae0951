"""`thinkrec serve` as a process: its end, a kill under load, and what is served after that."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from storage.bundle import open_bundle
from tests.tiny_bundle import write_tiny_bundle

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
ROW = {"rows": [{"user_id": "1", "item_id": "3"}]}


@contextmanager
def serving(bundle: Path, home: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The process and its URL."""
    command = [sys.executable, "-m", "flows.cli", "serve", "--bundle", str(bundle), "--port", "0", "--json"]
    environment = {**os.environ, "THINKREC_HOME": str(home), "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen([*command, "--reload", "0.1"], env=environment, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield process, json.loads(process.stdout.readline())["url"]
    finally:
        process.kill()
        process.wait()


def score(url: str) -> Any:
    return httpx.post(f"{url}/score", json=ROW, timeout=60).raise_for_status().json()


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_bundle(tmp_path_factory.mktemp("ended"))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_with_0_after_what_was_accepted(bundle: Path, tmp_path: Path, number: signal.Signals) -> None:
    with serving(bundle, tmp_path) as (process, url), ThreadPoolExecutor(4) as pool:
        score(url)
        body = {"user_id": "1", "candidates": 20}
        asked = [pool.submit(httpx.post, f"{url}/recommend", json=body, timeout=60) for _ in range(4)]
        while "thinkrec_waiting 0.0" in httpx.get(f"{url}/metrics").text and not all(each.done() for each in asked):
            time.sleep(0.001)
        process.send_signal(number)
        assert process.wait(30) == 0
        answered = [each.result().status_code for each in asked if each.exception() is None]
        assert set(answered) <= {200, 503}
        assert 200 in answered


def test_a_kill_under_load_loses_no_bundle(bundle: Path, tmp_path: Path) -> None:
    before = {path: path.read_bytes() for path in sorted(bundle.rglob("*")) if path.is_file()}
    over = threading.Event()
    with serving(bundle, tmp_path) as (process, url), ThreadPoolExecutor(4) as pool:
        known = score(url)

        def load() -> int:
            asked = 0
            while not over.is_set():
                try:
                    asked += httpx.post(f"{url}/score", json=ROW, timeout=60).status_code == 200
                except httpx.HTTPError:  # killed
                    break
            return asked

        loads = [pool.submit(load) for _ in range(4)]
        time.sleep(1.0)
        process.send_signal(signal.SIGKILL)
        process.wait(30)
        over.set()
        assert sum(each.result() for each in loads) > 0
    assert {path: path.read_bytes() for path in sorted(bundle.rglob("*")) if path.is_file()} == before
    open_bundle(bundle)
    with serving(bundle, tmp_path) as (_, url):
        assert score(url) == known
