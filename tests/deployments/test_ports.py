from __future__ import annotations

import socket
import time

import pytest
from pytest_httpserver import HTTPServer

from deployments.ports import answers, free_port, require_free, wait_until_answers
from deployments.zombies import crash_zombies
from thinkrec_core.errors import PlatformError


def test_a_free_port_can_be_listened_on() -> None:
    port = free_port()
    require_free(port, "a test", "--port")
    with socket.socket() as held:
        held.bind(("127.0.0.1", port))
        held.listen()
        with pytest.raises(PlatformError, match=rf"port {port} .*a test.*--port"):
            require_free(port, "a test", "--port")


def test_a_port_that_is_no_port() -> None:
    with pytest.raises(PlatformError, match="port 70000"):
        require_free(70000, "a test", "--port")


def test_answers(httpserver: HTTPServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")  # must not be asked
    httpserver.expect_request("/good").respond_with_data("ok")
    httpserver.expect_request("/bad").respond_with_data("no", status=500)
    assert answers(httpserver.url_for("/good"))
    assert not answers(httpserver.url_for("/bad"))
    assert not answers(f"http://127.0.0.1:{free_port()}/")
    assert not answers("no url")


def test_waiting_ends_when_the_server_is_dead_or_time_is_up() -> None:
    url = f"http://127.0.0.1:{free_port()}/"
    start = time.monotonic()
    assert not wait_until_answers(url, 30.0, lambda: False)
    assert not wait_until_answers(url, 0.2, lambda: True)
    assert time.monotonic() - start < 5


def test_zombies_are_crashed_by_force(httpserver: HTTPServer) -> None:
    httpserver.expect_request("/api/flow_runs/filter", method="POST").respond_with_json([{"id": "a"}, {"id": "b"}])
    for run in "ab":
        httpserver.expect_request(f"/api/flow_runs/{run}/set_state", method="POST").respond_with_json({})
    assert crash_zombies(httpserver.url_for("/api"), "full") == 2
    (asked, _), *changed = httpserver.log
    assert asked.json["work_pools"] == {"name": {"any_": ["full"]}}
    assert all(request.json["force"] and request.json["state"]["type"] == "CRASHED" for request, _ in changed)
    assert len(changed) == 2


def test_a_server_that_refuses(httpserver: HTTPServer) -> None:
    httpserver.expect_request("/api/flow_runs/filter").respond_with_data("no", status=500)
    with pytest.raises(PlatformError, match="refuses"):
        crash_zombies(httpserver.url_for("/api"), "full")
