"""`thinkrec teacher serve` as a process of its own, with a stand-in for the model's server; slow: with the real one."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from storage.models import resolve_model
from thinkrec_core.errors import AssetError

STAND_IN = """
import http.server, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path == "/health" else 404)
        self.end_headers()
        if self.path == "/die":
            import os
            os._exit(3)
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""
PROGRAM = """
import sys
from pathlib import Path
import storage.models as models
from storage.models import ResolvedModel
from tasks.teacher import server
from flows.cli import main
models.resolve_model = lambda name: ResolvedModel(Path("/models") / name, "digest")
server._command = lambda config, model, port: [sys.executable, "-c", sys.argv[1], str(port)]
sys.exit(main(["teacher", "serve", *sys.argv[2:]]))
"""


def serve(home: Path, *arguments: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "THINKREC_HOME": str(home), "PYTHONPATH": str(Path(__file__).parents[2])}
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, STAND_IN, *arguments],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def get(url: str) -> int:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(url, timeout=20) as response:
        return int(response.status)


def listens(url: str) -> bool:
    host, port = url.removeprefix("http://").split("/")[0].split(":")
    with socket.socket() as probe:
        return probe.connect_ex((host, int(port))) == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_is_ready_when_it_says_so_and_ends_when_told(tmp_path: Path, number: signal.Signals) -> None:
    running = serve(tmp_path, "--json", "--model", "tiny")
    assert running.stdout is not None
    told = json.loads(running.stdout.readline())
    assert told["base_url"].startswith("http://127.0.0.1:")
    assert (told["model"], Path(told["log"]).parent) == ("/models/tiny", tmp_path / "logs")
    assert get(told["health"]) == 200
    running.send_signal(number)
    out, err = running.communicate(timeout=30)
    assert (running.returncode, out, err) == (0, "", "")
    assert not listens(told["health"])


def test_a_server_that_dies_and_a_port_in_use_are_one_line(tmp_path: Path) -> None:
    running = serve(tmp_path, "--json")
    assert running.stdout is not None
    told = json.loads(running.stdout.readline())
    with pytest.raises(OSError):  # noqa: PT011 - the connection breaks in one way or another
        get(told["base_url"].removesuffix("/v1") + "/die")
    _, err = running.communicate(timeout=30)
    assert (running.returncode, err.count("\n")) == (2, 1)
    assert "the local teacher ended with code 3; see" in err
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        _, err = serve(tmp_path, "--port", port).communicate(timeout=30)
    assert f"port {port} of 127.0.0.1 cannot be used" in err


@pytest.mark.slow
def test_the_real_small_model_is_served_and_answers_a_run(tmp_path: Path) -> None:
    try:
        resolve_model("smollm2-135m")
    except AssetError:
        pytest.skip("the embedded model is not set up: make setup")
    environment = {**os.environ, "THINKREC_HOME": str(tmp_path)}
    command = [sys.executable, "-m", "flows.cli"]
    serving = subprocess.Popen(
        [*command, "teacher", "serve", "--preset", "smoke", "--json"],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert serving.stdout is not None
        told = json.loads(serving.stdout.readline())
        fields = [f"teacher.base_url={told['base_url']}", f"teacher.model={told['model']}"]
        asking = [*command, "reflections", "--preset", "smoke", "--split", "test", "--rows", "4", "--json"]
        asking += [part for field in fields for part in ("--set", field)]
        done = subprocess.run(asking, env=environment, capture_output=True, text=True, timeout=400, check=False)
    finally:
        serving.send_signal(signal.SIGINT)
        serving.wait(30)
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert summary["accepted"] + summary["rejected"] == 4
    assert "request failed" not in summary["reasons"]
    assert summary["completion_tokens"] > 0
