"""Answers of an OpenAI-compatible chat server, for tests that play one."""

from __future__ import annotations

import json
from typing import Any

from werkzeug import Response


def completion(content: str | None, prompt_tokens: int, completion_tokens: int, **message: Any) -> Response:
    """A chat completion with one choice; `message` adds fields such as reasoning_content to its message."""
    said = {"role": "assistant", "content": content, **message}
    usage = {"prompt_tokens": prompt_tokens, "completion_tokens": completion_tokens}
    body = {
        "id": "x",
        "object": "chat.completion",
        "created": 1,
        "model": "m",
        "choices": [{"index": 0, "finish_reason": "stop", "message": said}],
        "usage": {**usage, "total_tokens": prompt_tokens + completion_tokens},
    }
    return Response(json.dumps(body), content_type="application/json")
