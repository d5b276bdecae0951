"""The local teacher: ready, stopped, refused; and, as a slow test, with the real small model."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

from storage.models import resolve_model
from tasks.teacher import server
from tasks.teacher.client import TeacherClient
from tasks.teacher.endpoint import Endpoint
from tasks.teacher.server import local_teacher
from thinkrec_core.config.reflections import TeacherConfig
from thinkrec_core.errors import AssetError, PlatformError, TeacherError

HEALTHY = """
import http.server, os, sys
class Handler(http.server.BaseHTTPRequestHandler):
    calls = 0
    def do_GET(self):
        Handler.calls += 1  # not ready at once
        self.send_response(200 if self.path == "/health" and Handler.calls > 2 else 503)
        self.end_headers()
        self.wfile.write(os.environ.get("THINKREC_TEACHER_API_KEY", "no key").encode())
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Replaces the server's command by a Python program that gets the port."""

    def use(program: str) -> None:
        monkeypatch.setattr(server, "_command", lambda config, model, port: [sys.executable, "-c", program, str(port)])

    return use


def listens(url: str) -> bool:
    host, port = url.removeprefix("http://").removesuffix("/v1").split(":")
    with socket.socket() as probe:
        return probe.connect_ex((host, int(port))) == 0


def test_a_ready_server_is_given_and_ended(
    stand_in: Callable[[str], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in(HEALTHY)
    monkeypatch.setenv("THINKREC_TEACHER_API_KEY", "planted")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    with local_teacher(TeacherConfig(), tmp_path / "model", tmp_path / "log") as endpoint:
        assert endpoint.wire_model == str(tmp_path / "model")
        assert endpoint.is_local
        assert listens(endpoint.base_url)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        # The server has no business with the key of a remote teacher.
        assert opener.open(endpoint.base_url.removesuffix("/v1") + "/health").read() == b"no key"
    assert not listens(endpoint.base_url)


def test_an_error_inside_the_block_ends_the_server_too(stand_in: Callable[[str], None], tmp_path: Path) -> None:
    stand_in(HEALTHY)
    with pytest.raises(KeyError), local_teacher(TeacherConfig(), tmp_path, tmp_path / "log") as endpoint:
        raise KeyError("anything")
    assert not listens(endpoint.base_url)


def test_a_server_that_dies_is_told_with_its_last_line(stand_in: Callable[[str], None], tmp_path: Path) -> None:
    stand_in("import sys; print('loading'); sys.exit('no such model\\n\\n')")
    told = r"ended with code 1 before it was ready \(no such model\); see .*log"
    with pytest.raises(TeacherError, match=told), local_teacher(TeacherConfig(), tmp_path, tmp_path / "log"):
        pass


def test_a_server_that_is_never_ready_is_given_up_and_ended(stand_in: Callable[[str], None], tmp_path: Path) -> None:
    stand_in("import os, time; print(os.getpid(), flush=True); time.sleep(60)")
    config = TeacherConfig(startup_seconds=0.5)
    with (
        pytest.raises(TeacherError, match=r"not ready within 0\.5 s"),
        local_teacher(config, tmp_path, tmp_path / "log"),
    ):
        pass
    assert not Path(f"/proc/{(tmp_path / 'log').read_text().strip()}").exists()


def test_a_port_in_use_is_named(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        config = TeacherConfig(port=port)
        with pytest.raises(PlatformError, match=f"port {port} of"), local_teacher(config, tmp_path, tmp_path / "log"):
            pass
    assert not (tmp_path / "log").exists()


@pytest.mark.slow
def test_the_real_small_model_answers_alike_after_two_cold_starts(tmp_path: Path) -> None:
    try:
        model = resolve_model("smollm2-135m").path
    except AssetError:
        pytest.skip("the embedded model is not set up: make setup")
    questions = ["Is the sky blue? Say why.", "Name a colour and say why you like it."]
    config = TeacherConfig(concurrency=2, max_tokens=16, max_tokens_limit=16, temperature=0.0)

    async def ask(endpoint: Endpoint) -> list[str]:
        async with TeacherClient(endpoint, config) as client:
            asked = (
                client.ask(messages=[{"role": "user", "content": text}], max_tokens=16, temperature=0.0)
                for text in questions
            )
            return [answer.reply.content for answer in await asyncio.gather(*asked)]

    answers = []
    for number in range(2):
        with local_teacher(config, model, tmp_path / f"log{number}") as endpoint:
            answers.append(asyncio.run(ask(endpoint)))
    assert answers[0] == answers[1]
    assert all(len(text.split()) >= 3 for text in answers[0])


def test_the_threads_of_the_server_fit_the_machine() -> None:
    environment = server._environment({"A": "1", "MY_KEY": "x"}, TeacherConfig(api_key_env="MY_KEY"))
    assert 1 <= int(environment["OMP_NUM_THREADS"]) <= len(os.sched_getaffinity(0))
    assert environment["A"] == "1"
    assert "MY_KEY" not in environment
    assert environment["HF_HUB_OFFLINE"] == environment["DO_NOT_TRACK"] == "1"
