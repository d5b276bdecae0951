"""What the server answers: the recommender's own figures, streamed reasons, and another bundle without a restart."""

from __future__ import annotations

import json
import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from starlette.testclient import TestClient

from storage.bundle import MANIFEST, open_bundle
from tasks.recommender import Reader, Recommender
from tasks.serving.app import create_app
from tasks.serving.engine import Engine
from tasks.serving.limits import Limits
from tasks.serving.metrics import Metrics
from tasks.serving.worker import Job
from tests.tiny_bundle import write_tiny_bundle
from thinkrec_core.errors import DataError


@pytest.fixture(scope="module")
def recommender(bundle: Path) -> Recommender:
    return Recommender(open_bundle(bundle))


def test_scores_are_those_of_the_recommender(client: TestClient, recommender: Recommender) -> None:
    rows = [
        {"user_id": "1", "item_id": "3"},
        {"user_id": "2", "item_id": "3"},
        {"user_id": "1", "item_id": "7", "history": [{"item_id": "2", "label": 1}, {"item_id": "9", "label": 0}]},
        {"liked": ["Item 4"], "item_id": "5"},
    ]
    readers = [
        recommender.user("1"),
        recommender.user("2"),
        Reader(1, (2, 9), (1, 0), "1"),
        recommender.stranger(["Item 4"]),
    ]
    told = client.post("/score", json={"rows": rows}).json()
    expected = [
        recommender.score_rows([reader], np.array([item])) for reader, item in zip(readers, (3, 3, 7, 5), strict=True)
    ]
    assert told["bundle"] == "tiny-bundle-0"
    np.testing.assert_allclose([row["score"] for row in told["scores"]], [one.final[0] for one in expected], atol=1e-4)
    np.testing.assert_allclose(
        [row["llm_score"] for row in told["scores"]], [one.llm[0] for one in expected], atol=1e-4
    )
    assert len({round(row["score"], 4) for row in told["scores"]}) == 4  # each user, item and history has its own


def test_rows_of_one_reader_share_a_beginning_and_keep_their_scores(recommender: Recommender) -> None:
    readers = [recommender.user(name) for name in ("1", "2", "1", "2", "1", "2", "1", "1")]
    items = np.arange(3, 3 + len(readers))
    together = recommender.score_rows(readers, items)
    alone = [recommender.score_rows([one], items[place : place + 1]).llm[0] for place, one in enumerate(readers)]
    np.testing.assert_allclose(together.llm, alone, atol=1e-4)
    assert np.ptp(together.llm) > 1e-2


def test_requests_that_wait_are_scored_together_each_with_its_own_gates(engine: Engine) -> None:
    free = threading.Event()
    engine.worker.submit(Job(lambda: free.wait(10), 0))
    pairs = [{"user_id": str(user), "item_id": "3"} for user in range(1, 9)]
    with TestClient(create_app(engine), base_url="http://127.0.0.1") as client, ThreadPoolExecutor(8) as pool:
        asked = [pool.submit(client.post, "/score", json={"rows": [pair]}) for pair in pairs]
        while engine.metrics.registry.get_sample_value("thinkrec_waiting") != 9:
            time.sleep(0.01)
        free.set()
        together = [one.result().json()["scores"][0]["score"] for one in asked]
    assert engine.metrics.registry.get_sample_value("thinkrec_batch_rows_count") == 1
    assert engine.metrics.registry.get_sample_value("thinkrec_batch_rows_sum") == 8
    alone = engine.score_pairs([_pair(pair) for pair in pairs[:1]]) + engine.score_pairs(
        [_pair(pair) for pair in pairs[1:2]]
    )
    np.testing.assert_allclose(together[:2], [one["score"] for one in alone], atol=1e-4)


def _pair(values: dict[str, str]) -> object:
    from tasks.serving.schemas import Pair

    return Pair(**values)


def test_one_bad_row_is_its_own_request_s_trouble(engine: Engine, bundle: Path) -> None:
    found = engine.score_pairs([_pair({"user_id": "nobody", "item_id": "3"}), _pair({"user_id": "1", "item_id": "3"})])
    assert isinstance(found[0], DataError)
    assert isinstance(found[1]["score"], float)


def test_a_list_has_the_scores_of_its_rows_whether_or_not_the_model_takes_trees(
    recommender: Recommender, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader, items = recommender.user("1"), np.arange(3, 10)
    alone = [recommender.score_rows([reader], items[place : place + 1]).llm[0] for place in range(len(items))]
    np.testing.assert_allclose(recommender.score(reader, items).llm, alone, atol=1e-5)
    assert np.ptp(alone) > 1e-4
    monkeypatch.setattr(recommender.model.causal.config, "_attn_implementation", "eager")
    np.testing.assert_allclose(recommender.score(reader, items).llm, alone, atol=1e-5)


def test_lists_are_those_of_the_recommender(client: TestClient, recommender: Recommender) -> None:
    told = client.post("/recommend", json={"user_id": "2", "top_k": 3, "candidates": 8}).json()
    expected = recommender.recommend(recommender.user("2"), 3, 8)
    assert [row["item_id"] for row in told["recommendations"]] == [row["item_id"] for row in expected]
    np.testing.assert_allclose(
        [row["score"] for row in told["recommendations"]], [row["score"] for row in expected], atol=1e-4
    )
    assert told["gates"] == {"general": 0.0, "expert_0": 1.0, "expert_1": 0.0}


def test_an_explanation_grows_line_by_line(client: TestClient, recommender: Recommender) -> None:
    with client.stream("POST", "/explain", json={"user_id": "1", "item_id": "3"}) as response:
        lines = [json.loads(line) for line in response.iter_lines()]
    assert lines[0]["title"] == "Item 3 (1983)"
    assert len(lines) > 5
    assert lines[-1]["done"] is True
    assert lines[-1]["text"] == recommender.explain(recommender.user("1"), 3, lines[0]["score"])
    assert lines[-1]["text"].startswith("Yes." if lines[0]["score"] > 0 else "No.")
    assert client.post("/explain", json={"user_id": "1", "item_id": "none"}).status_code == 404


def test_titles_outside_of_the_history_are_marked(recommender: Recommender) -> None:
    reader = recommender.stranger(["Item 4", "Item 9"])
    text = 'Yes. Like "Item 4" and Item 3 (1983), but also Item 12 (1992) and "A Film Never Made".'
    assert recommender.ungrounded(reader, 3, text) == ["Item 12 (1992", "A Film Never Made"]


def test_a_profile_has_the_history_newest_first(client: TestClient, recommender: Recommender) -> None:
    told = client.post("/profile", json={"user_id": "3"}).json()
    reader = recommender.user("3")
    assert [row["item_id"] for row in told["history"]] == [str(item) for item in reversed(reader.items)]
    assert len(told["position"]) == 2
    assert client.post("/profile", json={"liked": ["item 4"]}).json()["position"] is None
    assert client.get("/users", params={"q": "1"}).json()["names"] == ["1", "10", "11", "12"]
    assert client.get("/titles", params={"q": "item 20"}).json()["names"] == ["Item 20 (2000)"]
    assert len(client.get("/map").json()["x"]) == 12


def alone_on(bundle: Path) -> float:
    recommender = Recommender(open_bundle(bundle))
    return float(recommender.score_rows([recommender.user("1")], np.array([3])).final[0])


def test_another_bundle_is_served_when_the_name_moves_and_a_half_written_one_never(tmp_path: Path) -> None:
    first, second = write_tiny_bundle(tmp_path, "first"), write_tiny_bundle(tmp_path, "second", seed=1)
    half = tmp_path / "half"
    shutil.copytree(second, half)
    weights = half / "general" / "adapter" / "adapter_model.safetensors"
    whole = weights.read_bytes()
    named = [first]
    engine = Engine(lambda: named[0], Limits(), Metrics())
    with TestClient(create_app(engine), base_url="http://127.0.0.1") as client:

        def score() -> float:
            row = {"user_id": "1", "item_id": "3"}
            return client.post("/score", json={"rows": [row]}).json()["scores"][0]["score"]

        before = score()
        assert not engine.refresh()
        for broken in (whole[: len(whole) // 2], whole[:-1] + bytes([whole[-1] ^ 1])):
            named[0] = half
            weights.write_bytes(broken)
            assert not engine.refresh()
            assert "is not the file that was exported" in client.get("/health").json()["reload_error"]
            assert score() == before
        (half / MANIFEST).rename(tmp_path / "kept")
        assert not engine.refresh()
        assert score() == before
        (tmp_path / "kept").rename(half / MANIFEST)
        weights.write_bytes(whole)
        base = engine.recommender.base[1]
        assert engine.refresh()
        told = client.get("/health").json()
        assert (told["bundle"], told["reload_error"]) == ("tiny-second-1", None)
        assert score() == pytest.approx(alone_on(second), abs=1e-6)
        assert score() != pytest.approx(before, abs=1e-4)
        # The base model is held once: every tensor of it is that of the bundle before.
        kept = {each.data_ptr() for each in base.parameters()}
        assert {each.data_ptr() for each in engine.recommender.model.causal.parameters()} >= kept
        named[0] = first
        assert engine.refresh()
        assert score() == before
    assert engine.metrics.registry.get_sample_value("thinkrec_reloads_total", {"result": "done"}) == 2


@pytest.mark.slow
def test_the_watch_follows_a_moved_name(tmp_path: Path) -> None:
    first, second = write_tiny_bundle(tmp_path, "first"), write_tiny_bundle(tmp_path, "second", seed=1)
    named = [first]
    engine = Engine(lambda: named[0], Limits(), Metrics())
    swapped, refresh = threading.Event(), engine.refresh

    def watched() -> bool:
        done = refresh()
        if done:
            swapped.set()
        return done

    engine.refresh = watched  # type: ignore[method-assign]
    with TestClient(create_app(engine, reload_seconds=0.05), base_url="http://127.0.0.1") as client:
        named[0] = second
        assert swapped.wait(30)
        assert client.get("/health").json()["bundle"] == "tiny-second-1"
