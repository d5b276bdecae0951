"""What the server refuses, and that it refuses in words, never by failing."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from tasks.serving.app import create_app
from tasks.serving.engine import Engine
from tasks.serving.limits import Limits
from tasks.serving.metrics import Metrics
from tasks.serving.schemas import Pair
from tasks.serving.worker import Job, Refused
from thinkrec_core.errors import ThinkRecError

TOKEN = "s3cret-of-the-test"
ROW = {"user_id": "1", "item_id": "3"}
HOSTILE = {
    "no JSON": b"{",
    "deeply nested": b"[" * 100_000,
    "a number of 5000 digits": b'{"rows": ' + b"9" * 5000 + b"}",
    "half a character": b'{"rows": [{"user_id": "\\ud800", "item_id": "3"}]}',
    "NaN": b'{"rows": [{"user_id": NaN, "item_id": "3"}]}',
    "not UTF-8": b'{"rows": "\xff\xfe"}',
    "nul": b'{"rows": [{"user_id": "\\u0000", "item_id": "3"}]}',
    "an empty list": b'{"rows": []}',
    "another type": b'{"rows": {"user_id": "1"}}',
    "a number for a name": b'{"rows": [{"user_id": 1, "item_id": "3"}]}',
    "an unknown field": b'{"rows": [{"user_id": "1", "item_id": "3", "__class__": "x"}]}',
    "both": b'{"rows": [{"user_id": "1", "liked": ["Item 4"], "item_id": "3"}]}',
    "nobody": b'{"rows": [{"item_id": "3"}]}',
    "a name of 600 characters": b'{"rows": [{"user_id": "' + b"x" * 600 + b'", "item_id": "3"}]}',
    "an unknown user": b'{"rows": [{"user_id": "\\"><script>", "item_id": "3"}]}',
    "an unknown item": b'{"rows": [{"user_id": "1", "item_id": "../../etc/passwd"}]}',
    "an unknown title": b'{"rows": [{"liked": ["\\u202e"], "item_id": "3"}]}',
    "nothing": b"",
}


def served(bundle: Path, token: str | None = None, **limits: Any) -> TestClient:
    app = create_app(Engine(lambda: bundle, Limits(**limits), Metrics()), token)
    return TestClient(app, base_url="http://127.0.0.1")


@pytest.fixture(scope="module")
def open_client(bundle: Path) -> Iterator[TestClient]:
    with served(bundle) as client:
        yield client


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_json_is_answered_with_its_mistake(open_client: TestClient, name: str) -> None:
    told = open_client.post("/score", content=HOSTILE[name], headers={"content-type": "application/json"})
    assert told.status_code in (400, 404, 422)
    assert isinstance(told.json()["detail"], str)
    assert len(told.content) < 2000


def test_large_bodies_are_refused_whether_or_not_they_say_so(open_client: TestClient) -> None:
    big = b" " * 10_000_000
    assert open_client.post("/score", content=big).status_code == 413
    sent = []

    def parts() -> Iterator[bytes]:
        for _ in range(160):
            sent.append(65_536)
            yield b" " * 65_536

    assert open_client.post("/score", content=parts()).status_code == 413
    for wrong in ("-1", "1e9", "9" * 30):
        assert open_client.post("/score", content=b"{}", headers={"content-length": wrong}).status_code == 413


@pytest.mark.parametrize(
    "path",
    ["/../bundle.json", "/%2e%2e/%2e%2e/etc/passwd", "/page.js/../../engine.py", "//etc/passwd", "/page.css%00.py",
     "/..%5c..%5cengine.py", "/docs", "/bundle.json", "/static/page.js", "/engine.py"],
)  # fmt: skip
def test_paths_lead_nowhere_else(open_client: TestClient, path: str) -> None:
    told = open_client.get(path)
    assert told.status_code == 404
    assert b"import" not in told.content


def test_only_local_names_are_answered(open_client: TestClient) -> None:
    assert open_client.get("/health", headers={"host": "evil.example"}).status_code == 400
    assert open_client.get("/health", headers={"host": "localhost:8000"}).status_code == 200
    answer = open_client.post("/score", json={"rows": [ROW]}, headers={"origin": "http://evil.example"})
    assert "access-control-allow-origin" not in answer.headers
    # A form of another site can send text, but no JSON.
    assert (
        open_client.post("/score", content=b'{"rows": []}', headers={"content-type": "text/plain"}).status_code == 422
    )


def test_a_token_is_asked_for_and_never_told(bundle: Path) -> None:
    with served(bundle, TOKEN) as client:
        for header in ({}, {"authorization": "Bearer wrong"}, {"authorization": f"bearer  {TOKEN}"},
                       {"authorization": TOKEN}, {"authorization": f"Bearer {TOKEN}x"}):  # fmt: skip
            for method, path in (("POST", "/score"), ("GET", "/metrics"), ("GET", "/openapi.json"), ("GET", "/users")):
                told = client.request(method, path, headers=header)
                assert told.status_code == 401
                assert TOKEN not in told.text
        assert client.get("/").status_code == client.get("/health").status_code == 200
        right = {"authorization": f"Bearer {TOKEN}"}
        assert client.post("/score", json={"rows": [ROW]}, headers=right).status_code == 200
        metrics = client.get("/metrics", headers=right).text
        assert 'thinkrec_requests_total{path="/score",status="401"}' in metrics
        assert TOKEN not in metrics + client.get("/openapi.json", headers=right).text
        assert client.get("/openapi.json", headers=right).json()["components"]["securitySchemes"]


def test_a_full_queue_answers_429_and_forgets_nobody(bundle: Path) -> None:
    engine = Engine(lambda: bundle, Limits(queue=2), Metrics())
    free = threading.Event()
    with TestClient(create_app(engine), base_url="http://127.0.0.1") as client:
        held = [engine.worker.submit(Job(lambda: free.wait(20), 0)) for _ in range(2)]
        told = client.post("/score", json={"rows": [ROW]})
        assert told.status_code == 429
        assert int(told.headers["retry-after"]) >= 1
        assert client.get("/health").status_code == 200  # the event loop does not wait for the worker
        free.set()
        assert all(one.result(20) for one in held)
        assert client.post("/score", json={"rows": [ROW]}).status_code == 200


def test_work_that_would_surely_be_late_is_refused_at_once(bundle: Path) -> None:
    engine = Engine(lambda: bundle, Limits(seconds=5.0), Metrics())
    free = threading.Event()
    with TestClient(create_app(engine), base_url="http://127.0.0.1") as client:
        engine.worker.pace.per_row.update(score=0.1, list=0.1)  # as a slow machine has measured it
        held = engine.worker.submit(Job(lambda: free.wait(20), 40))
        told = client.post("/recommend", json={"user_id": "1", "candidates": 20})
        assert (told.status_code, told.headers["retry-after"]) == (429, "1")
        free.set()
        held.result(20)


def test_nobody_is_refused_on_a_guess(bundle: Path) -> None:
    engine = Engine(lambda: bundle, Limits(seconds=5.0), Metrics())
    free = threading.Event()
    engine.worker.submit(Job(lambda: time.sleep(0.3), 1, "cold")).result(20)
    assert engine.worker.pace.seconds("cold", 1000) == 0  # the first one of a kind says nothing of the next
    engine.worker.submit(Job(lambda: time.sleep(0.02), 1, "cold")).result(20)
    held = engine.worker.submit(Job(lambda: free.wait(20), 1, "cold"))
    with TestClient(create_app(engine), base_url="http://127.0.0.1") as client, ThreadPoolExecutor(1) as pool:
        asked = pool.submit(client.post, "/recommend", json={"user_id": "1", "candidates": 1000})
        with pytest.raises(Refused, match="the queue is too long"):  # of what it knows, it is sure
            engine.worker.submit(Job(lambda: None, 1000, "cold"))
        free.set()
        assert asked.result().status_code == 200
        held.result(20)


def test_wrong_rows_do_not_make_the_others_look_cheap(engine: Engine) -> None:
    before = dict(engine.worker.pace.per_row)
    for _ in range(5):
        with pytest.raises(ThinkRecError):
            engine.worker.submit(engine.score([Pair(user_id="nobody", item_id="3")])).result(20)
    assert engine.worker.pace.per_row == before


@pytest.mark.parametrize("path", ["/score", "/recommend", "/explain"])
def test_what_is_not_finished_in_time_is_answered_503(bundle: Path, path: str) -> None:
    engine = Engine(lambda: bundle, Limits(seconds=0.2), Metrics())
    free = threading.Event()
    with TestClient(create_app(engine), base_url="http://127.0.0.1") as client:
        held = engine.worker.submit(Job(lambda: free.wait(20), 0))
        body = {"/score": {"rows": [ROW]}, "/recommend": {"user_id": "1"}, "/explain": ROW}[path]
        told = client.post(path, json=body)
        assert told.status_code == 503
        assert int(told.headers["retry-after"]) >= 1
        free.set()
        held.result(20)
    assert engine.metrics.registry.get_sample_value("thinkrec_waiting") == 0


def test_an_end_finishes_what_was_accepted_and_refuses_the_rest(bundle: Path) -> None:
    engine = Engine(lambda: bundle, Limits(), Metrics())
    free = threading.Event()
    held = engine.worker.submit(Job(lambda: free.wait(20), 0))
    closing = threading.Thread(target=engine.worker.close, args=(20,))
    closing.start()
    with TestClient(create_app(engine), base_url="http://127.0.0.1") as client:
        while not engine.worker.closed:
            time.sleep(0.01)
        assert client.post("/score", json={"rows": [ROW]}).status_code == 503
        assert client.get("/health").json()["status"] == "stopping"
        free.set()
        closing.join(20)
        assert held.result(0)
