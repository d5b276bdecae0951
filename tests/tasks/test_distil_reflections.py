"""The reflections stage against a real HTTP server that plays the teacher, answer by answer."""

from __future__ import annotations

import contextlib
import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pytest_httpserver import HTTPServer
from rich.console import Console
from werkzeug import Request, Response

from storage.journal import Journal
from storage.store import ArtifactStore
from storage.tracking import NullStageTracker
from tasks.teacher import retries
from tests.chat_replies import completion
from tests.reflection_cases import USER, context_of, distil, summary, table
from thinkrec_core.errors import TeacherError

KEY = "sk-planted-91b2e4d7"
LABELS = [0, 1, 0, 1, 0, 1, 0, 1]
REASONS = "The user prefers quiet dramas of that time."
Answer = Callable[[int, int], "str | Response | None"]


class Teacher:
    """Answers by (item, how often it was asked about it) and remembers every request body."""

    def __init__(self, server: HTTPServer, answer: Answer) -> None:
        self.answer, self.bodies, self.asked = answer, [], defaultdict(int)
        self.url = server.url_for("/v1")
        server.expect_request("/v1/chat/completions").respond_with_handler(self._handle)

    def _handle(self, request: Request) -> Response:
        body = json.loads(request.get_data())
        self.bodies.append(body)
        said = "\n".join(message["content"] for message in body["messages"])
        match = re.search(r'like "Item (\d+)"', said)
        assert match is not None
        item = int(match.group(1))
        self.asked[item] += 1
        told = self.answer(item, self.asked[item])
        if isinstance(told, Response):
            return told
        return completion(told, 100, 10)

    @property
    def billed(self) -> int:
        return len(self.bodies)


def right(item: int, _: int = 1) -> str:
    return f"{'Yes' if LABELS[item] else 'No'}. {REASONS}"


def wrong(item: int, _: int = 1) -> str:
    return f"{'No' if LABELS[item] else 'Yes'}. {REASONS}"


@pytest.fixture(scope="module")
def make_httpserver() -> Iterator[HTTPServer]:
    with HTTPServer(threaded=True) as server:
        yield server


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retries, "_backoff", lambda state: 0.01)
    monkeypatch.setenv("THINKREC_TEACHER_API_KEY", KEY)


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(tmp_path / "store")


def test_right_answers_become_reflections(store: ArtifactStore, httpserver: HTTPServer) -> None:
    teacher = Teacher(httpserver, right)
    folder = distil(context_of(store, teacher.url))
    rows = table(folder)
    assert [row["row"] for row in rows] == [10 * number for number in range(8)]
    assert all(row["accepted"] and row["reason"] == "" and row["rounds"] == 1 for row in rows)
    assert [row["verdict"] for row in rows] == ["yes" if label else "no" for label in LABELS]
    assert {row["trace"] for row in rows} == {REASONS}
    facts = summary(folder)
    assert (facts["accepted"], facts["rejected"], facts["reasons"], facts["rounds"]) == (8, 0, {}, {"1": 8})
    assert (facts["prompt_tokens"], facts["completion_tokens"], facts["leaked"]) == (800, 80, 0)
    assert (facts["model"], facts["note"]) == ("m", "")
    calls = [json.loads(line) for line in (folder / "telemetry" / "requests.jsonl").read_text().splitlines()]
    assert len(calls) == 8
    assert all(call["seconds"] > 0 and call["status"] == "ok" and not call["reused"] for call in calls)


def test_requests_carry_titles_and_labels_but_no_user(store: ArtifactStore, httpserver: HTTPServer) -> None:
    teacher = Teacher(httpserver, right)
    distil(context_of(store, teacher.url, teacher={"temperature": 0.25, "top_p": 0.5, "max_tokens": 77}))
    body = teacher.bodies[0]
    assert set(body) == {"model", "messages", "max_tokens", "temperature", "top_p", "seed"}
    assert (body["model"], body["max_tokens"], body["temperature"], body["top_p"]) == ("m", 77, 0.25, 0.5)
    assert '"Old A": liked' in body["messages"][-1]["content"]
    assert len({sent["seed"] for sent in teacher.bodies}) == 8
    assert not any(str(USER) in json.dumps(sent) for sent in teacher.bodies)


def test_the_host_is_named_before_anything_is_sent(store: ArtifactStore, httpserver: HTTPServer) -> None:
    console = Console(record=True, width=200)
    told: list[str] = []

    def listen(item: int, time: int) -> str:
        told.append(console.export_text(clear=False))
        return right(item)

    teacher = Teacher(httpserver, listen)
    distil(context_of(store, teacher.url, console))
    assert f"localhost:{httpserver.port}" in told[0]


def test_hints_follow_wrong_answers_until_the_right_one(store: ArtifactStore, httpserver: HTTPServer) -> None:
    teacher = Teacher(httpserver, lambda item, time: right(item) if time == 4 else wrong(item))
    rows = table(distil(context_of(store, teacher.url)))
    assert all(row["accepted"] and row["rounds"] == 4 for row in rows)
    assert all(len(set(row["hint_ids"])) == 3 for row in rows)
    assert all(row["prompt_tokens"] == 400 for row in rows)
    assert teacher.billed == 32


def test_a_teacher_that_is_never_right_is_asked_seven_times_at_most(
    store: ArtifactStore, httpserver: HTTPServer
) -> None:
    teacher = Teacher(httpserver, wrong)
    rows = table(distil(context_of(store, teacher.url)))
    assert teacher.billed == 7 * 8
    assert {row["reason"] for row in rows} == {"wrong verdict: after round 7"}
    assert not any(row["accepted"] for row in rows)


def test_empty_answers_raise_the_budget(store: ArtifactStore, httpserver: HTTPServer) -> None:
    teacher = Teacher(httpserver, lambda item, time: None if time < 3 else right(item))
    rows = table(distil(context_of(store, teacher.url)))
    assert all(row["accepted"] and row["rounds"] == 3 for row in rows)
    assert sorted({body["max_tokens"] for body in teacher.bodies}) == [1024, 1536, 2048]


def test_a_row_whose_requests_fail_is_kept_with_its_reason(store: ArtifactStore, httpserver: HTTPServer) -> None:
    teacher = Teacher(httpserver, lambda item, time: Response("down", 503) if item == 3 else right(item))
    context = context_of(store, teacher.url, teacher={"concurrency": 1})
    records: list[Any] = []
    context.tracker.stage = _stage_that_keeps(records)  # type: ignore[method-assign]
    folder = distil(context)
    rows = table(folder)
    assert [row["accepted"] for row in rows] == [True, True, True, False, True, True, True, True]
    assert rows[3]["reason"] == "request failed: answered 503: down (2 tries)"
    assert rows[3]["verdict"] is None
    assert summary(folder)["reasons"] == {"request failed": 1}
    assert len(records) == 8
    assert [record["status"] for record in records].count("failed") == 1


def test_too_few_reflections_stop_the_run_and_the_answers_are_kept(
    store: ArtifactStore, httpserver: HTTPServer
) -> None:
    teacher = Teacher(httpserver, lambda item, time: right(item) if item < 5 else "No idea.")
    limits = {"min_accepted": 6, "max_rounds": 2}
    with pytest.raises(TeacherError) as caught:
        distil(context_of(store, teacher.url, reflections=limits))
    assert "5 of 8 reflections were accepted" in str(caught.value)
    assert "at least 6 (reflections.min_accepted)" in str(caught.value)
    billed = teacher.billed
    folder = distil(context_of(store, teacher.url, reflections={**limits, "min_accepted": 5}))
    assert teacher.billed == billed
    assert summary(folder)["accepted"] == 5


def test_an_unreadable_answer_is_kept_and_not_paid_again(store: ArtifactStore, httpserver: HTTPServer) -> None:
    teacher = Teacher(httpserver, lambda item, time: Response("{oops") if (item, time) == (3, 1) else right(item))
    first = table(distil(context_of(store, teacher.url, teacher={"concurrency": 1})))
    assert [row["rounds"] for row in first] == [1, 1, 1, 2, 1, 1, 1, 1]
    assert all(row["accepted"] for row in first)
    again = table(distil(context_of(store, teacher.url, reflections={"min_trace_words": 4})))
    assert (teacher.billed, again) == (9, first)


def test_a_crash_pays_nothing_twice(
    store: ArtifactStore, httpserver: HTTPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    teacher = Teacher(httpserver, lambda item, time: right(item) if time == 2 else wrong(item))
    context = context_of(store, teacher.url, teacher={"concurrency": 1})
    append = Journal.append_all
    paid = 0

    def crash(self: Journal, entries: Any) -> Any:
        nonlocal paid
        kept = append(self, entries)
        paid += 1
        if paid == 7:
            raise MemoryError("power cut")
        return kept

    monkeypatch.setattr(Journal, "append_all", crash)
    with pytest.raises(MemoryError):
        distil(context)
    assert teacher.billed == 7
    # What a death in the middle of a write leaves behind:
    with Journal.of(store.root, "m").path.open("a") as handle:
        handle.write('{"key": "torn')
    folder = distil(context)
    assert teacher.billed == 16
    assert summary(folder)["accepted"] == 8
    # An undisturbed run in another store gives the same table.
    teacher.asked.clear()
    other = ArtifactStore(store.root.parent / "other")
    undisturbed = distil(context_of(other, teacher.url, teacher={"concurrency": 4}))
    assert table(undisturbed) == table(folder)
    assert (undisturbed / "reflections.parquet").read_bytes() == (folder / "reflections.parquet").read_bytes()


def test_an_unchanged_rerun_is_cached_and_operational_settings_do_not_matter(
    store: ArtifactStore, httpserver: HTTPServer
) -> None:
    teacher = Teacher(httpserver, right)
    distil(context_of(store, teacher.url))
    again = context_of(store, teacher.url, teacher={"concurrency": 3, "attempts": 1, "timeout_seconds": 5.0})
    distil(again)
    assert again.results["reflections"].status == "cached"
    other = context_of(store, teacher.url, reflections={"min_trace_words": 6})
    distil(other)
    assert other.results["reflections"].status == "ran"
    assert teacher.billed == 8


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_key_stops_after_one_request(store: ArtifactStore, httpserver: HTTPServer, status: int) -> None:
    teacher = Teacher(httpserver, lambda item, time: Response(f"bad key {KEY}", status))
    with pytest.raises(TeacherError, match=f"answered {status}") as caught:
        distil(context_of(store, teacher.url))
    assert teacher.billed == 1
    assert "THINKREC_TEACHER_API_KEY" in str(caught.value)
    assert not list((store.root / "artifacts").glob("reflections/*"))


def test_the_key_reaches_no_file_and_no_output(
    store: ArtifactStore, httpserver: HTTPServer, capfd: pytest.CaptureFixture[str]
) -> None:
    def quote_it(item: int, time: int) -> str | Response:
        return right(item) if item != 5 else Response(f"quota of {KEY} is used up", 400)

    teacher = Teacher(httpserver, quote_it)
    folder = distil(context_of(store, teacher.url, Console(), teacher={"concurrency": 1}))
    assert table(folder)[5]["reason"] == "request refused: answered 400: quota of [key] is used up"
    assert not any(KEY.encode() in path.read_bytes() for path in store.root.rglob("*") if path.is_file())
    assert KEY not in "".join(capfd.readouterr())


def _stage_that_keeps(records: list[Any]) -> Callable[[str], Any]:
    class Keeping(NullStageTracker):
        def teacher_trace(self, record: Any) -> None:
            records.append(record)

    return lambda name: contextlib.nullcontext(Keeping())
