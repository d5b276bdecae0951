"""What is run and killed: a Llama of 4 layers with random weights, 300 synthetic ratings, and a teacher that answers by rule."""

from __future__ import annotations

import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from storage.synthetic_folder import write_synthetic
from thinkrec_core.synthetic import SyntheticSpec

SPEC = SyntheticSpec(users=30, items=40, rows=300, clusters=2)


def make_world(folder: Path, model: bool = True) -> dict[str, Any]:
    """The fields that the preset `kill` requires, after data and, if asked for, model were written below `folder`."""
    write_synthetic(SPEC, folder / "data")
    if model:
        from tests.tiny_model import write_tiny_model  # loads transformers

        write_tiny_model(folder / "model")
    return {"llm.model": str(folder / "model"), "data.source": str(folder / "data")}


class ScriptedTeacher:
    """An OpenAI-compatible chat server on this machine; a context manager.

    To a question it says Yes or No by the hash of the question, so that some dialogues need hints; a hint it obeys. The same
    messages get the same answer.
    """

    def __init__(self) -> None:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/v1"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        said = {"role": "assistant", "content": _answer([message["content"] for message in asked["messages"]])}
        usage = {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110}
        choice = {"index": 0, "finish_reason": "stop", "message": said}
        body = {"id": "x", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice], "usage": usage}
        text = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, format: str, *values: object) -> None:
        """Stay silent."""


def _answer(messages: list[str]) -> str:
    last = messages[-1]
    if "Will the user like" in last:
        word = "Yes" if hashlib.sha256(last.encode()).digest()[0] % 2 else "No"
    else:
        word = "No" if "disliked" in last else "Yes"
    return f"{word}. The user has shown a taste for quiet dramas of that time."
