"""A planted key and a planted header: no output of a run holds them, whatever the endpoint says and however it ends."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from storage.store import ArtifactStore
from storage.tracking import Tracker
from tasks.teacher import keys, retries
from tests.fault_server import FaultServer, fault_server
from tests.reflection_cases import context_of, distil, table
from thinkrec_core.errors import TeacherError

KEYS = ("sk-planted-5d1f-first", "sk-planted-5d1f-second")
HEADER = "planted-5d1f-header"
PLANTED = "planted-5d1f"


@pytest.fixture(scope="module")
def server() -> Iterator[FaultServer]:
    with fault_server() as running:
        yield running


def test_no_secret_in_logs_artifacts_mlflow_tracebacks_or_reprs(
    tmp_path: Path,
    server: FaultServer,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(retries, "_backoff", lambda state: 0.01)
    monkeypatch.setattr(keys, "FIRST_REST", 0.05)
    monkeypatch.setenv("THINKREC_TEACHER_API_KEY", ",".join(KEYS))
    monkeypatch.setenv("GATE", HEADER)
    caplog.set_level(logging.DEBUG)
    store = ArtifactStore(tmp_path / "store")
    tracker = Tracker.start(store.root, "run", {"seed": 1})
    teacher = {
        "extra_headers": {"X-Gateway-Token": "Bearer ${GATE}"},
        "timeout_seconds": 1.0,
        "requests_per_minute": 100_000,
        "concurrency": 2,
    }
    # Each refusal quotes the key that it came with; one key is refused for good.
    faults = {"1": ["400"], "2": ["500"] * 2, "3": ["429"], "4": ["cut"], "5": ["hang"], "6": ["invalid_json"]}
    server.plan(faults, rejected_keys=[KEYS[1]])
    context = context_of(store, server.url, Console(), tracker, teacher=teacher)
    folder = distil(context)
    reasons = [row["reason"] for row in table(folder) if row["reason"]]
    assert [reason.split("key ")[0] for reason in reasons] == [
        "request refused: answered 400: refused as planned, ",
        "request failed: answered 500: refused as planned, ",
    ]
    assert all("key [key]" in reason for reason in reasons)
    assert server.account()["keys"][KEYS[1]] == 1

    server.plan(rejected_keys=list(KEYS))
    other = ArtifactStore(tmp_path / "other")
    with pytest.raises(TeacherError) as caught:
        distil(context_of(other, server.url, Console(), tracker, teacher=teacher))
    logging.getLogger("tests").error("the run failed", exc_info=caught.value)
    tracker.finish()

    told = [
        *capfd.readouterr(),
        caplog.text,
        "".join(traceback.format_exception(caught.value)),
        repr(context),
        repr(context.config),
        context.config.model_dump_json(),
        repr(caught.value),
    ]
    assert "refused as planned, key [key]" in told[3]
    assert any("POST" in record.getMessage() for record in caplog.records)  # the client's own debug log was on
    assert not [text for text in told if PLANTED in text]
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {"mlflow.db", "requests.jsonl", "m.jsonl"} <= {path.name for path in files}
    assert not [path for path in files if PLANTED.encode() in path.read_bytes()]
