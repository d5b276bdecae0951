"""`thinkrec reflections` from the data to the table: live, by batches, and from a journal that somebody handed on."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from flows.reflections import reflections, reflections_batch
from storage.journal_table import export_journals, import_journal
from storage.schemas import COSTED_REFLECTIONS, REFERENCES, REFLECTIONS, SAMPLES
from storage.synthetic_folder import write_synthetic
from storage.tables import read_table
from tasks.teacher.batch import read_batch
from tests.batch_endpoint import completion, run_batch
from tests.chat_replies import completion as chat_reply
from thinkrec_core.errors import ConfigError, TeacherError
from thinkrec_core.synthetic import SyntheticSpec

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("prefect_api")]
KEY = "sk-planted-5d2c8b1f"
REASONS = "The user prefers quiet dramas of that time."


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made") / "data"
    write_synthetic(SyntheticSpec(users=60, items=80, rows=900, clusters=2, drift=0.0, seed=3), folder)
    return folder


@pytest.fixture(scope="module")
def make_httpserver() -> Iterator[HTTPServer]:
    with HTTPServer(threaded=True) as server:
        yield server


@pytest.fixture
def asked(httpserver: HTTPServer, monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Requests to a teacher that says Yes until it is told that No is right."""
    seen: list[bytes] = []

    def handle(request: Request) -> Response:
        seen.append(request.get_data())
        told = re.search(rb"correct answer is (Yes|No)", seen[-1].rpartition(b'"content"')[2])
        return chat_reply(f"{told.group(1).decode() if told else 'Yes'}. {REASONS}", 100, 10)

    httpserver.expect_request("/v1/chat/completions").respond_with_handler(handle)
    monkeypatch.setenv("THINKREC_TEACHER_API_KEY", KEY)
    return seen


def fields(source: Path, base_url: str) -> dict[str, Any]:
    return {
        "data.source": str(source),
        "encoder.epochs": 1,
        "wrong_predictions.rows": 8,
        "teacher.base_url": base_url,
        "teacher.model": "m",
        "teacher.prices": {"m": {"input": 1.0, "output": 10.0}},
        "reflections.max_rounds": 3,
        "reflections.min_accepted": 4,
    }


def table(summary: dict[str, Any]) -> list[dict[str, Any]]:
    return read_table(Path(summary["table"]), REFLECTIONS).to_pylist()


def test_live_by_batches_and_by_a_handed_on_journal_give_the_same_table(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, httpserver: HTTPServer, asked: list[bytes]
) -> None:
    monkeypatch.setenv("THINKREC_HOME", str(tmp_path / "live"))
    live = reflections("smoke", fields(source, httpserver.url_for("/v1")))
    rows = table(live)
    assert len(rows) == live["accepted"] == 8
    assert len(asked) == sum(row["rounds"] for row in rows) > 8
    assert live["cost"] == pytest.approx(len(asked) * (100 * 1.0 + 10 * 10.0) / 1e6)
    costed = read_table(Path(live["table_with_costs"]), COSTED_REFLECTIONS).to_pylist()
    assert sum(row["cost"] for row in costed) == pytest.approx(live["cost"])
    assert all(row["seconds"] > 0 for row in costed)
    page = Path(live["report"]).read_text(encoding="utf-8")
    for shown in ("8 of 8 (100.0%)", f"{len(asked)}, ", REASONS, "0.00"):
        assert shown in page

    # Somebody without a key gets the file, asks nobody, and has the same table.
    export_journals(tmp_path / "live", tmp_path / "journal.parquet")
    monkeypatch.delenv("THINKREC_TEACHER_API_KEY")
    monkeypatch.setenv("THINKREC_HOME", str(tmp_path / "given"))
    assert import_journal(tmp_path / "given", tmp_path / "journal.parquet").added == len(asked)
    billed = len(asked)
    for base_url in ("journal", "https://teacher.example.org/v1"):  # of the second, nothing is asked: it does not exist
        given = reflections("smoke", fields(source, base_url))
        assert table(given) == rows
        assert given["artifacts"]["reflections"]["digest"] == live["artifacts"]["reflections"]["digest"]
    assert len(asked) == billed

    # The same dialogues by files.
    monkeypatch.setenv("THINKREC_HOME", str(tmp_path / "batch"))

    def answer(body: dict[str, Any], place: int) -> tuple[int, Any]:
        told = re.search(r"correct answer is (Yes|No)", body["messages"][-1]["content"])
        return 200, completion(f"{told.group(1) if told else 'Yes'}. {REASONS}")

    files = []
    for number in range(1, 5):
        target = tmp_path / f"batch{number}.jsonl"
        written = reflections_batch(str(target), "smoke", fields(source, "journal"))
        if not written["requests"]:
            break
        files.append(target)
        read_batch(tmp_path / "batch", target, run_batch(target, answer))
    assert (written["accepted"], written["rejected"], written["path"], len(files)) == (8, 0, None, 2)
    batched = reflections("smoke", fields(source, "journal"))
    assert batched["artifacts"]["reflections"]["digest"] == live["artifacts"]["reflections"]["digest"]

    # Neither keys nor users are in what is handed on.
    users = read_table(next((tmp_path / "live").glob("artifacts/data/*/samples_train.parquet")), SAMPLES, ["user_id"])
    names = {name.encode() for name in users.column("user_id").to_pylist()}
    for file in (tmp_path / "journal.parquet", *files):
        content = file.read_bytes()
        assert KEY.encode() not in content
        assert not any(re.search(rb"\b" + re.escape(name) + rb"\b", content) for name in names if len(name) > 3)
    assert not any(KEY.encode() in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())


def test_reference_traces_of_test_rows(
    source: Path, store_root: Path, httpserver: HTTPServer, asked: list[bytes]
) -> None:
    found = reflections("smoke", fields(source, httpserver.url_for("/v1")), "test", 12)
    rows = read_table(Path(found["table"]), REFERENCES).to_pylist()
    assert (len(rows), found["split"], found["accepted"]) == (12, "test", 12)
    assert set(found["stages"]) == {"data", "reference_traces", "reflections_report"}
    assert "Reference traces of test rows" in Path(found["report"]).read_text(encoding="utf-8")
    again = reflections("smoke", fields(source, httpserver.url_for("/v1")), "test", 12)
    assert again["all_cached"]
    assert len(asked) == sum(row["rounds"] for row in rows)


def test_a_journal_that_lacks_answers_and_a_local_teacher_are_told(source: Path, store_root: Path) -> None:
    with pytest.raises(TeacherError, match=r"0 of 8 reflections were accepted \(8 request failed\)"):
        reflections("smoke", fields(source, "journal"))
    with pytest.raises(ConfigError, match=r"teacher\.base_url is local, which takes no batches"):
        reflections_batch(str(store_root / "x"), "smoke", {**fields(source, "local"), "teacher.model": "smollm2-135m"})
