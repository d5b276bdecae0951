"""What a run leaves in MLflow: the parent, its stages, their figures, inputs, traces; and that it never stops a run."""

from __future__ import annotations

import logging
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from storage.mlflow_backend import Backend
from storage.tracking import NullTracker, StageTracker, Tracker, flattened, metric_name

mlflow = pytest.importorskip("mlflow")


@pytest.fixture(scope="module")
def tracker(tmp_path_factory: pytest.TempPathFactory) -> Tracker:
    root = tmp_path_factory.mktemp("store")
    return Tracker.start(root, "first", {"seed": 7, "llm": {"model": "tiny", "lora": {"rank": 8}}, "text": "x" * 9000})


def client(tracker: Tracker) -> mlflow.MlflowClient:
    return mlflow.MlflowClient(tracker.uri)


def experiment(tracker: Tracker) -> str:
    return client(tracker).get_run(tracker.run_id).info.experiment_id


def test_parent_run_holds_the_flattened_configuration(tracker: Tracker) -> None:
    run = client(tracker).get_run(tracker.run_id)
    assert run.info.run_name == "first"
    assert run.data.params["seed"] == "7"
    assert run.data.params["llm.lora.rank"] == "8"
    assert run.data.params["text"] == "x" * 499 + "…"
    assert [item.path for item in client(tracker).list_artifacts(tracker.run_id)] == ["config.json"]


def test_stage_is_a_child_with_metrics_by_step_dataset_and_artifact(tracker: Tracker, tmp_path: Path) -> None:
    table = tmp_path / "rows.parquet"
    table.write_bytes(b"rows")
    with tracker.stage("general") as stage:
        stage.params({"general": {"steps": 3}})
        stage.metric_batch([("loss", 3.0 - step, step) for step in range(3)])
        stage.metrics({"ndcg@5": 0.5, "undefined": None})
        stage.dataset(table, "train rows", "d" * 64, "train")
        stage.artifact(table)
    run = client(tracker).get_run(stage.run_id)
    assert run.data.tags["mlflow.parentRunId"] == tracker.run_id
    assert run.info.status == "FINISHED"
    assert run.data.metrics == {"loss": 1.0, "ndcg_at_5": 0.5}
    history = client(tracker).get_metric_history(stage.run_id, "loss")
    assert [(point.step, point.value) for point in history] == [(0, 3.0), (1, 2.0), (2, 1.0)]
    assert [(item.dataset.name, item.tags[0].value) for item in run.inputs.dataset_inputs] == [("train rows", "train")]
    assert [item.path for item in client(tracker).list_artifacts(stage.run_id)] == ["rows.parquet"]


def test_stage_that_raises_is_failed_and_names_the_error(tracker: Tracker) -> None:
    with pytest.raises(ValueError, match="bad"), tracker.stage("encoder") as stage:
        raise ValueError("bad\nnews")
    run = client(tracker).get_run(stage.run_id)
    assert run.info.status == "FAILED"
    assert run.data.tags["thinkrec.error"] == "ValueError: bad news"


def test_teacher_calls_become_traces_of_their_stage(tracker: Tracker) -> None:
    call = {"request": {"messages": ["Yes or No?"]}, "seconds": 1.5, "row": 4, "round": 2}
    with tracker.stage("reflections") as stage:
        stage.teacher_trace({**call, "response": {"content": "No."}, "status": "ok"})
        stage.teacher_trace({**call, "response": None, "status": "timeout"})
    found = client(tracker).search_traces(locations=[experiment(tracker)], run_id=stage.run_id)
    by_state = {trace.info.state.value: trace for trace in found}
    assert set(by_state) == {"OK", "ERROR"}
    span = by_state["OK"].data.spans[0]
    assert span.inputs == {"messages": ["Yes or No?"]}
    assert span.outputs == {"content": "No."}
    assert by_state["OK"].info.execution_duration == 1500
    assert by_state["OK"].info.tags["row"] == "4"


def test_only_the_first_calls_and_every_failure_are_traced() -> None:
    kept: list[str] = []

    class Recorder:
        def trace(self, run_id: str, record: dict[str, str]) -> None:
            kept.append(record["status"])

    stage = StageTracker(Recorder(), "run")  # type: ignore[arg-type]
    for status in ["ok"] * 60 + ["error"] * 3:
        stage.teacher_trace({"status": status})
    assert kept == ["ok"] * 50 + ["error"] * 3


def test_a_killed_run_is_closed_by_the_next_one(tmp_path: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path; from storage.tracking import Tracker\n"
        "t = Tracker.start(Path(sys.argv[1]), 'killed', {}); t.stage('general').__enter__()\n"
        "print(t.run_id, flush=True); os._exit(9)"
    )
    killed = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True, check=False)
    run_id = killed.stdout.strip()
    alive = Tracker.start(tmp_path, "alive", {})
    runs = {run.info.run_name: run.info.status for run in client(alive).search_runs([experiment(alive)])}
    assert killed.returncode == 9
    assert client(alive).get_run(run_id).info.status == "KILLED"
    assert runs == {"killed": "KILLED", "general": "KILLED", "alive": "RUNNING"}
    alive.finish("FINISHED")
    assert client(alive).get_run(alive.run_id).info.status == "FINISHED"


def test_a_locked_database_is_a_warning(
    tracker: Tracker, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("storage.mlflow_backend.PAUSES", (0.0, 0.0))
    calls = []

    def locked(*_: object, **__: object) -> None:
        calls.append(1)
        raise sqlite3.OperationalError("database is locked")

    assert isinstance(tracker._backend, Backend)
    monkeypatch.setattr(tracker._backend.client, "log_batch", locked)
    with caplog.at_level(logging.WARNING), tracker.stage("clusters") as stage:
        stage.metrics({"auc": 0.7})
    assert len(calls) == 3
    assert "metrics was not logged (database is locked)" in caplog.text


def test_a_database_that_cannot_be_opened_gives_a_silent_tracker(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "mlflow.db").write_text("this is no database, and it is long enough to be read as a page")
    with caplog.at_level(logging.WARNING):
        silent = Tracker.start(tmp_path, "x", {})
    assert silent.run_id == ""
    assert "not tracked" in caplog.text


def test_null_tracker_takes_every_call(tmp_path: Path) -> None:
    silent = NullTracker()
    with silent.stage("x") as stage:
        stage.params({"a": 1})
        stage.metrics({"b": 1.0}, step=2)
        stage.metric_batch([("c", 1.0, 1)])
        stage.dataset(tmp_path, "d", "e", "train")
        stage.artifact(tmp_path)
        stage.teacher_trace({"status": "error"})
        assert stage.run_id == ""
    silent.metrics({"b": 1.0})
    silent.tags({"a": "b"})
    silent.finish("FINISHED")
    assert list(tmp_path.iterdir()) == []


def test_names() -> None:
    assert flattened({"a": {"b": {"c": 1}, "d": {}}, "e": [1]}) == {"a.b.c": 1, "a.d": {}, "e": [1]}
    assert metric_name("rung.map@5:x") == "rung.map_at_5_x"
