"""A journal handed on as Parquet: what goes out comes in, and nothing here is replaced by it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage import journal_table
from storage.journal import Entry, Journal, request_key
from storage.journal_table import export_journals, import_journal
from storage.schemas import JOURNAL
from storage.tables import read_table, write_table
from tasks.teacher.client import Answer
from thinkrec_core.errors import StoreError
from thinkrec_core.reflection.trace import Reply


def entry(number: int, content: str = "Yes. Because.", model: str = "org/m", seconds: float = 0.5) -> Entry:
    request = {
        "model": model,
        "round": 1 + number % 3,
        "messages": [{"role": "user", "content": f'Will the user like "Títle {number}"?'}],
        "max_tokens": 64,
        "temperature": 0.6,
        "top_p": 1,
        "seed": number,
    }
    answer = asdict(Answer(Reply(content, "thought", "", 100, 10), "stop", seconds, 2))
    return Entry(request_key(request), answer, request)


def fill(root: Path, *entries: Entry) -> None:
    for each in entries:
        Journal.of(root, each.request["model"]).append_all([each])


def test_what_is_exported_and_imported_is_the_same_journal(tmp_path: Path) -> None:
    entries = [entry(n) for n in range(5)] + [entry(n, model="other") for n in range(3)]
    fill(tmp_path / "a", *entries)
    done = export_journals(tmp_path / "a", tmp_path / "j.parquet")
    assert (done.answers, done.models, done.skipped) == (8, {"org/m": 5, "other": 3}, 0)
    first = import_journal(tmp_path / "b", tmp_path / "j.parquet")
    assert (first.added, first.known, first.differing) == (8, 0, [])
    for model in ("org/m", "other"):
        here, there = (sorted(Journal.of(tmp_path / name, model).entries(), key=lambda e: e.key) for name in "ab")
        assert here == there
    again = import_journal(tmp_path / "b", tmp_path / "j.parquet")
    assert (again.added, again.known, again.differing) == (0, 8, [])


def test_answers_about_keywords_go_back_to_their_own_journal(tmp_path: Path) -> None:
    request = {"model": "org/m", "task": "keywords", "messages": [{"role": "user", "content": "Which?"}], "seed": 0}
    about = Entry(request_key(request), asdict(Answer(Reply("a, b"), "stop", 0.1, 1)), request)
    Journal.of(tmp_path / "a", "org/m-keywords").append_all([about])
    fill(tmp_path / "a", entry(1))
    export_journals(tmp_path / "a", tmp_path / "j.parquet")
    assert import_journal(tmp_path / "b", tmp_path / "j.parquet").added == 2
    assert list(Journal.of(tmp_path / "b", "org/m-keywords").entries()) == [about]
    assert list(Journal.of(tmp_path / "b", "org/m").entries()) == [entry(1)]


def test_the_columns_are_all_of_an_answer() -> None:
    assert set(journal_table.REPLY) == {field.name for field in fields(Reply)}
    assert {"reply", *journal_table.CALL} == {field.name for field in fields(Answer)}


def test_the_same_answers_in_another_order_give_the_same_bytes(tmp_path: Path) -> None:
    entries = [entry(n) for n in range(6)]
    fill(tmp_path / "a", *entries)
    fill(tmp_path / "b", *reversed(entries))
    for name in "ab":
        export_journals(tmp_path / name, tmp_path / f"{name}.parquet")
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()


def test_an_answer_here_stays_and_the_other_one_is_told(tmp_path: Path) -> None:
    fill(tmp_path / "a", entry(1, "No. Theirs."), entry(2), entry(3, seconds=9.0))
    fill(tmp_path / "b", entry(1, "Yes. Ours."), entry(3, seconds=1.0))
    export_journals(tmp_path / "a", tmp_path / "j.parquet")
    done = import_journal(tmp_path / "b", tmp_path / "j.parquet")
    # The third differs in its latency alone, and that is no other answer.
    assert (done.added, done.known, done.differing) == (1, 1, [entry(1).key])
    kept = Journal.of(tmp_path / "b", "org/m")
    assert kept.get(entry(1).key)["reply"]["content"] == "Yes. Ours."  # type: ignore[index]
    assert kept.get(entry(3).key)["seconds"] == 1.0  # type: ignore[index]


def test_replies_of_an_earlier_form_are_the_same_replies(tmp_path: Path) -> None:
    whole = entry(1)
    kept = {**whole.answer, "reply": {k: v for k, v in whole.answer["reply"].items() if k != "unreadable"}}
    fill(tmp_path / "old", Entry(whole.key, kept, whole.request))
    fill(tmp_path / "new", whole)
    for name, other in (("old", "new"), ("new", "old")):
        export_journals(tmp_path / name, tmp_path / f"{name}.parquet")
        done = import_journal(tmp_path / other, tmp_path / f"{name}.parquet")
        assert (done.known, done.differing) == (1, [])


def test_one_model_alone_and_answers_without_a_request(tmp_path: Path) -> None:
    fill(tmp_path, entry(1), entry(2, model="other"))
    Journal.of(tmp_path, "other").append("bare", {"reply": {}})
    Journal.of(tmp_path, "other").append("odd", {"text": "x"})
    done = export_journals(tmp_path, tmp_path / "j.parquet", "other")
    assert (done.models, done.skipped) == ({"other": 1}, 2)
    with pytest.raises(StoreError, match="no answers of 'nobody'"):
        export_journals(tmp_path, tmp_path / "k.parquet", "nobody")
    assert not (tmp_path / "k.parquet").exists()


def test_a_file_that_is_there_is_not_replaced(tmp_path: Path) -> None:
    fill(tmp_path, entry(1))
    (tmp_path / "j.parquet").write_text("mine")
    with pytest.raises(StoreError, match="is there already"):
        export_journals(tmp_path, tmp_path / "j.parquet")
    with pytest.raises(StoreError, match="cannot be written"):
        export_journals(tmp_path, tmp_path / "nowhere" / "j.parquet")
    assert (tmp_path / "j.parquet").read_text() == "mine"


def _other_answer(row: dict[str, Any]) -> dict[str, Any]:
    request = json.loads(row["request"])
    return {**row, "request": json.dumps({**request, "seed": 99})}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda row: {**row, "key": "0" * 64}, "row 3 was changed"),
        (_other_answer, "row 3 was changed"),
        (lambda row: {**row, "model": "dear"}, "row 3 was changed"),
        (lambda row: {**row, "round": 7}, "row 3 was changed"),
        (lambda row: {**row, "request": "{"}, "row 3 holds no request"),
        (lambda row: {**row, "request": "[]"}, "row 3"),
        (lambda row: {**row, "content": None}, "null values"),
    ],
)
def test_a_row_that_is_not_as_it_was_written_stops_the_whole_import(
    tmp_path: Path, change: Callable[[dict[str, Any]], dict[str, Any]], told: str
) -> None:
    fill(tmp_path / "a", *(entry(n) for n in range(3)))
    export_journals(tmp_path / "a", tmp_path / "j.parquet")
    rows = read_table(tmp_path / "j.parquet", JOURNAL).to_pylist()
    rows[2] = change(rows[2])
    loose = pa.schema([field.with_nullable(True) for field in JOURNAL], metadata=JOURNAL.metadata)
    pq.write_table(pa.Table.from_pylist(rows, schema=loose), tmp_path / "changed.parquet")
    with pytest.raises(StoreError, match=told):
        import_journal(tmp_path / "b", tmp_path / "changed.parquet")
    assert not (tmp_path / "b" / "journal").exists()


def test_other_files_are_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("hello")
    write_table(tmp_path / "other", {"a": [1]}, pa.schema([pa.field("a", pa.int8())], metadata={"thinkrec.table": "x"}))
    wrong = pa.schema([pa.field(f.name, pa.string()) for f in JOURNAL], metadata=JOURNAL.metadata)
    pq.write_table(pa.Table.from_pylist([dict.fromkeys(JOURNAL.names, "x")], schema=wrong), tmp_path / "types")
    for name in ("text", "other", "types", "nothing"):
        with pytest.raises(StoreError, match="thinkrec reflections export") as caught:
            import_journal(tmp_path / "b", tmp_path / name)
        assert "\n" not in str(caught.value)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.text(max_size=30), st.text(max_size=30)), min_size=1, max_size=5))
def test_any_text_survives(tmp_path_factory: pytest.TempPathFactory, texts: list[tuple[str, str]]) -> None:
    root = tmp_path_factory.mktemp("any")
    entries = []
    for number, (title, content) in enumerate(texts):
        request = {"model": "m", "round": 1, "messages": [{"role": "user", "content": title}], "seed": number}
        entries.append(Entry(request_key(request), asdict(Answer(Reply(content), "stop", 0.0, 1)), request))
    fill(root / "a", *entries)
    export_journals(root / "a", root / "j.parquet")
    import_journal(root / "b", root / "j.parquet")
    journal = Journal.of(root / "b", "m")
    assert [journal.get(each.key) for each in entries] == [each.answer for each in entries]
