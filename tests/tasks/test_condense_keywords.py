"""Descriptions to keywords: paid for once per item, and never worse than the source."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from storage.schemas import DESCRIPTIONS, ITEMS
from storage.store import ArtifactRef, ArtifactStore
from storage.tables import read_table
from storage.tracking import NullTracker
from tasks.condense_keywords import condense_keywords
from tasks.prepare_data import prepare_data
from tasks.stage import RunContext
from tasks.teacher import retries
from tasks.view import View
from tests.chat_replies import completion
from thinkrec_core.config.root import ThinkRecConfig
from thinkrec_core.errors import TeacherError

MANY = "|".join(f"Shelf {n}" for n in range(11))


@pytest.fixture(scope="module")
def make_httpserver() -> Iterator[HTTPServer]:
    with HTTPServer(threaded=True) as server:
        yield server


@pytest.fixture
def bodies(httpserver: HTTPServer, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Requests to a teacher that repeats the word after "about", is empty on its first try about i3, and fails on i5."""
    monkeypatch.setattr(retries, "_backoff", lambda state: 0.01)
    seen: list[dict[str, Any]] = []

    def handle(request: Request) -> Response:
        body = json.loads(request.get_data())
        seen.append(body)
        asked = body["messages"][-1]["content"]
        if "Title i5" in asked:
            return Response(json.dumps({"error": {"message": "no"}}), 400)
        if "Title i3" in asked and body["max_tokens"] == 32:
            return completion("<think>so much to say", 10, 32)
        word = asked.partition("about ")[2].partition('"')[0] or "shelves"
        return completion("I cannot say." if word == "nothing" else f"Keywords: {word}, book", 10, 5)

    httpserver.expect_request("/v1/chat/completions").respond_with_handler(handle)
    return seen


def source(folder: Path, failing: bool = False) -> Path:
    """Items i0..i9: a genre, too many categories, descriptions (of i3, i4, i6; i5 fails), nothing."""
    folder.mkdir()
    rows = [f"u{u},i{t % 10},{1 + (u + t) % 5},{1000 * u + t}" for u in range(10) for t in range(10)]
    (folder / "interactions.csv").write_text("user_id,item_id,rating,timestamp\n" + "\n".join(rows) + "\n")
    texts = {
        "i0": "Drama,about war ",
        "i1": f"{MANY},",
        "i3": ",about salt ",
        "i4": ",about nothing ",
        "i6": ",about tea ",
    }
    if failing:
        texts["i5"] = ",about failure "
    lines = [f"i{t},Title i{t},{texts.get(f'i{t}', ',')}" for t in range(10)]
    (folder / "items.csv").write_text("item_id,title,genres,description\n" + "\n".join(lines) + "\n")
    return folder


def run(tmp_path: Path, folder: Path, server: HTTPServer, **changes: Any) -> tuple[RunContext, Path]:
    values: dict[str, Any] = {
        "data": {"source": str(folder), "keywords": "teacher"},
        "teacher": {
            "base_url": server.url_for("/v1"), "model": "m", "max_tokens": 32, "max_tokens_step": 32, "max_tokens_limit": 64,
        },
    }  # fmt: skip
    for part, fields in changes.items():
        values[part] = {**values.get(part, {}), **fields} if isinstance(fields, dict) else fields
    context = RunContext(
        ThinkRecConfig.model_validate(values), ArtifactStore(tmp_path / "store"), NullTracker(), View()
    )
    refs = []
    for stage, inputs in ((prepare_data, ()), (condense_keywords, refs)):
        result = stage.fn(context, *inputs)
        refs.append(result if isinstance(result, ArtifactRef) else result.data)
    return context, context.store.path(refs[1])


def keywords(folder: Path) -> dict[str, str]:
    return {row["item_id"]: row["keywords"] for row in read_table(folder / "items.parquet", ITEMS).to_pylist()}


def test_descriptions_become_keywords_and_the_rest_stays(
    tmp_path: Path, httpserver: HTTPServer, bodies: list[dict[str, Any]]
) -> None:
    context, folder = run(tmp_path, source(tmp_path / "source"), httpserver)
    found = keywords(folder)
    assert {item: words for item, words in found.items() if words} == {
        "i0": "Drama",  # genres serve as they are
        "i1": "shelves, book",
        "i3": "salt, book",  # after an answer that ended while it thought
        "i6": "tea, book",
    }
    assert json.loads((folder / "keywords.json").read_text()) == {
        "items": 10, "asked": 4, "condensed": 3, "kept": 4, "model": "m",
    }  # fmt: skip
    asked = [body["messages"][-1]["content"].splitlines()[0] for body in bodies]
    assert sorted(asked) == [f'Title: "Title i{n}"' for n in (1, 3, 3, 4)] + ['Title: "Title i6"']
    assert "u0" not in json.dumps(bodies)
    # What the later stages read is all there, and the tables that did not change are the same files.
    data = next((context.store.root / "artifacts" / "data").iterdir())
    names = {path.name for path in folder.iterdir()}
    assert names == {path.name for path in data.iterdir()} | {"keywords.json"}
    assert (folder / "interactions.parquet").read_bytes() == (data / "interactions.parquet").read_bytes()
    assert read_table(folder / "descriptions.parquet", DESCRIPTIONS).num_rows == 4
    assert context.store.path(context.store.find("keywords", folder.name)) == folder  # type: ignore[arg-type]


def test_an_item_is_paid_for_once(tmp_path: Path, httpserver: HTTPServer, bodies: list[dict[str, Any]]) -> None:
    folder = source(tmp_path / "source")
    _, first = run(tmp_path, folder, httpserver)
    paid = len(bodies)
    context, _ = run(tmp_path, folder, httpserver)
    assert context.results["keywords"].status == "cached"
    with (folder / "interactions.csv").open("a") as handle:
        handle.write("new,i3,4,99999\n")
    context, second = run(tmp_path, folder, httpserver, seed=8)  # other data, another seed, the same items
    assert (context.results["keywords"].status, len(bodies)) == ("ran", paid)
    assert keywords(second) == keywords(first)
    run(tmp_path, folder, httpserver, teacher={"model": "other"})
    assert len(bodies) == 2 * paid


def test_without_descriptions_nobody_is_asked(
    tmp_path: Path, httpserver: HTTPServer, bodies: list[dict[str, Any]]
) -> None:
    folder = source(tmp_path / "source")
    (folder / "items.csv").write_text("item_id,title\n" + "".join(f"i{t},Title i{t}\n" for t in range(10)))
    _, found = run(tmp_path, folder, httpserver)
    assert bodies == []
    assert not any(keywords(found).values())


def test_too_many_failures_stop_and_answers_are_kept(
    tmp_path: Path, httpserver: HTTPServer, bodies: list[dict[str, Any]]
) -> None:
    folder = source(tmp_path / "source", failing=True)
    config = {"concurrency": 1, "attempts": 1}
    with pytest.raises(TeacherError, match=r"1 of 5 items got no answer.*answers are kept"):
        run(tmp_path, folder, httpserver, teacher=config)
    asked = [body["messages"][-1]["content"] for body in bodies]
    with pytest.raises(TeacherError):
        run(tmp_path, folder, httpserver, teacher=config)
    again = [body["messages"][-1]["content"] for body in bodies[len(asked) :]]
    assert len(again) == 1  # only the item that failed
    assert "Title i5" in again[0]
