"""Reference traces: a seeded sample of held-out rows, kept apart from what may be trained on."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from storage.journal_table import export_journals, import_journal
from storage.schemas import COSTED_REFERENCES, REFERENCES, SAMPLES
from storage.store import ArtifactRef, ArtifactStore
from storage.tables import read_table, write_table
from storage.tracking import NullTracker
from tasks.collect_references import collect_references
from tasks.stage import RunContext
from tasks.teacher.cases import reference_cases
from tasks.teacher.identity import Teacher
from tasks.view import View
from tasks.worker.build import open_workbench
from tasks.worker.job import TrainingJob
from tests.chat_replies import completion
from tests.tiny_model import write_tiny_model
from tests.tiny_world import tiny_world, write_world
from thinkrec_core.config.reflections import TeacherConfig
from thinkrec_core.config.root import ThinkRecConfig
from thinkrec_core.errors import DataError, StoreError


@pytest.fixture(scope="module")
def make_httpserver() -> Iterator[HTTPServer]:
    with HTTPServer(threaded=True) as server:
        yield server


@pytest.fixture
def bodies(httpserver: HTTPServer) -> list[dict[str, Any]]:
    """Requests to a teacher that says Yes to everything, hint or not."""
    seen: list[dict[str, Any]] = []

    def handle(request: Request) -> Response:
        seen.append(json.loads(request.get_data()))
        return completion("Yes. The user likes quiet dramas of that time.", 100, 10)

    httpserver.expect_request("/v1/chat/completions").respond_with_handler(handle)
    return seen


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = write_world(tmp_path / "world", tiny_world())["data"]
    # The rows of the valid split, told as test rows.
    table = read_table(folder / "samples_valid.parquet", SAMPLES).to_pydict()
    write_table(folder / "samples_test.parquet", {**table, "split": ["test"] * len(table["split"])}, SAMPLES)
    return folder


def collect(
    tmp_path: Path, data: Path, server: HTTPServer, rows: int, home: str = "store", **teacher: Any
) -> tuple[RunContext, Path]:
    store = ArtifactStore(tmp_path / home)
    values = {"teacher": {"base_url": server.url_for("/v1"), "model": "m", **teacher}, "reflections": {"max_rounds": 2}}
    context = RunContext(ThinkRecConfig.model_validate(values), store, NullTracker(), View())
    with store.locked("data", "k"):
        ref = store.find("data", "k")
        if ref is None:
            draft = store.draft("data", "k")
            shutil.copytree(data, draft.path, dirs_exist_ok=True)
            ref = store.publish(draft, "data", "k", {})
    result = collect_references.fn(context, ref, "test", rows)
    return context, store.path(result if isinstance(result, ArtifactRef) else result.data)


def test_one_row_per_sampled_test_row_with_its_label(
    tmp_path: Path, data: Path, httpserver: HTTPServer, bodies: list[dict[str, Any]]
) -> None:
    _, folder = collect(tmp_path, data, httpserver, 7)
    table = read_table(folder / "reference_traces.parquet", REFERENCES).to_pylist()
    test = read_table(data / "samples_test.parquet", SAMPLES).to_pylist()
    assert len(table) == 7
    assert [row["row"] for row in table] == sorted({row["row"] for row in table})
    assert all(row["split"] == "test" and row["label"] == test[row["row"]]["label"] for row in table)
    # Who liked the item is explained; who did not is asked once more, and the teacher sticks to its Yes.
    assert [row["accepted"] for row in table] == [row["label"] == 1 for row in table]
    assert {row["rounds"] for row in table if not row["accepted"]} == {2}
    summary = json.loads((folder / "summary.json").read_text())
    assert (summary["split"], summary["accepted"]) == ("test", sum(row["label"] for row in table))
    assert len(bodies) == sum(row["rounds"] for row in table)
    costed = read_table(folder / "telemetry" / "reference_traces.parquet", COSTED_REFERENCES).to_pylist()
    assert [{name: row[name] for name in table[0]} for row in costed] == table
    assert all(row["seconds"] > 0 and row["requests"] == row["rounds"] and row["reused"] == 0 for row in costed)


def test_a_larger_sample_pays_for_the_new_rows_alone(
    tmp_path: Path, data: Path, httpserver: HTTPServer, bodies: list[dict[str, Any]]
) -> None:
    collect(tmp_path, data, httpserver, 5)
    _, folder = collect(tmp_path, data, httpserver, 9)
    assert len({json.dumps(body, sort_keys=True) for body in bodies}) == len(bodies)
    table = read_table(folder / "reference_traces.parquet", REFERENCES).to_pylist()
    assert len(bodies) == sum(row["rounds"] for row in table)
    small, large = (reference_cases(data, "test", rows, 10, 7) for rows in (5, 9))
    assert set(small.rows) < set(large.rows)
    assert len(reference_cases(data, "test", 1000, 10, 7).rows) == 20


def test_the_journal_alone_finishes_what_it_holds_and_rejects_the_rest(
    tmp_path: Path, data: Path, httpserver: HTTPServer, bodies: list[dict[str, Any]]
) -> None:
    first, folder = collect(tmp_path, data, httpserver, 5)
    asked = len(bodies)
    again, replayed = collect(tmp_path, data, httpserver, 5, base_url="journal")
    name = "reference_traces.parquet"
    assert (replayed / name).read_bytes() == (folder / name).read_bytes()
    assert (first.results["reference_traces"].status, again.results["reference_traces"].status) == ("ran", "ran")
    _, more = collect(tmp_path, data, httpserver, 9, base_url="journal")
    reasons = [row["reason"] for row in read_table(more / name, REFERENCES).to_pylist()]
    assert reasons.count("request failed: no answer in the journal") == 4
    assert len(bodies) == asked
    # What nobody was asked about is not taken for an answer later.
    _, whole = collect(tmp_path, data, httpserver, 9)
    assert not any("journal" in row["reason"] for row in read_table(whole / name, REFERENCES).to_pylist())


def test_a_handed_on_journal_answers_everything_without_a_key(
    tmp_path: Path,
    data: Path,
    httpserver: HTTPServer,
    bodies: list[dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("THINKREC_TEACHER_API_KEY", raising=False)
    _, folder = collect(tmp_path, data, httpserver, 6)
    exported = export_journals(tmp_path / "store", tmp_path / "journal.parquet")
    asked = len(bodies)
    assert (exported.answers, import_journal(tmp_path / "given", tmp_path / "journal.parquet").added) == (asked, asked)
    # The host does not exist, and there is no key: nothing is asked.
    _, given = collect(tmp_path, data, httpserver, 6, "given", base_url="https://teacher.invalid/v1")
    name = "reference_traces.parquet"
    assert (given / name).read_bytes() == (folder / name).read_bytes()
    assert len(bodies) == asked


def test_a_local_teacher_is_told_by_its_name() -> None:
    names = {"smollm2-135m@0123456789abcdef": True, "smollm2-135m": False, "org/m@main": False}
    config = TeacherConfig(base_url="journal")
    assert {name: Teacher.of(config.model_copy(update={"model": name})).is_local for name in names} == names


def test_the_student_and_the_teacher_see_equally_much_history(data: Path) -> None:
    short = reference_cases(data, "test", 20, 2, 7)
    long = reference_cases(data, "test", 20, 10, 7)
    assert max(len(case.history) for case in long.cases) > 2
    assert [case.history[-2:] for case in long.cases] == [case.history for case in short.cases]


def test_a_split_without_rows_is_refused(data: Path) -> None:
    columns = {name: [] for name in SAMPLES.names}
    write_table(data / "samples_valid.parquet", columns, SAMPLES)
    with pytest.raises(DataError, match="split valid has no rows"):
        reference_cases(data, "valid", 5, 10, 7)


@pytest.mark.slow
def test_a_training_refuses_reference_traces(
    tmp_path: Path, data: Path, httpserver: HTTPServer, bodies: list[dict[str, Any]]
) -> None:
    _, folder = collect(tmp_path, data, httpserver, 3)
    folders = write_world(tmp_path / "other", tiny_world())
    model = write_tiny_model(tmp_path / "model")
    job = TrainingJob(
        kind="general",
        config=ThinkRecConfig.model_validate({"llm": {"model": str(model), "dtype": "fp32"}}),
        model=model,
        data=folders["data"],
        encoder=folders["encoder"],
        reflections=folder,
        start_from=None,
        clusters=None,
        cluster=None,
        output=tmp_path / "output",
        scratch=tmp_path,
    )
    with pytest.raises(StoreError, match=r"reflections\.parquet does not exist"):
        open_workbench(job)
    # Under the name of a training's table, and even with its columns alone, it is still no such table.
    renamed = tmp_path / "renamed"
    renamed.mkdir()
    for place in (folder, folder / "telemetry"):
        shutil.copy(place / "reference_traces.parquet", renamed / "reflections.parquet")
        with pytest.raises(StoreError, match="has columns"):
            open_workbench(job.model_copy(update={"reflections": renamed}))
    table = read_table(folder / "reference_traces.parquet", REFERENCES)
    pq.write_table(table.drop_columns(["split"]), renamed / "reflections.parquet")
    with pytest.raises(StoreError, match="is table b'reference_traces'"):
        open_workbench(job.model_copy(update={"reflections": renamed}))
