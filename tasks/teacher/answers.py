"""The body of a chat completion, checked field by field: what comes back may be anything."""

from __future__ import annotations

import json
from typing import Any

from thinkrec_core.errors import one_line
from thinkrec_core.reflection.trace import Reply

PREVIEW = 120


class NotAChatCompletion(Exception):
    """The server answered with success, but not as an OpenAI-compatible chat endpoint.

    Attributes:
        damaged: the body begins as a JSON object and is none: most likely an answer that was damaged on its way.
    """

    def __init__(self, text: str, damaged: bool) -> None:
        super().__init__(f"answered {one_line(text, PREVIEW) or 'an empty body'!r}")
        self.damaged = damaged


def parse_completion(text: str) -> tuple[Reply, str]:
    """The reply in the body `text` of a chat completion, and its finish reason.

    Raises:
        NotAChatCompletion: it is not JSON, or not of that shape.
    """
    try:
        body = json.loads(text)
    except (ValueError, RecursionError):
        raise NotAChatCompletion(text, text.lstrip().startswith("{")) from None
    try:
        choice = body["choices"][0]
        message = choice["message"]
        known = {"content", "reasoning_content", "reasoning", "tool_calls", "refusal"}
        if not known & message.keys():
            raise KeyError("content")
    except (KeyError, IndexError, TypeError, AttributeError):
        raise NotAChatCompletion(text, damaged=False) from None
    usage = body.get("usage") or {}
    reply = Reply(
        content=_content(message.get("content")),
        reasoning_content=_text(message.get("reasoning_content")),
        reasoning=_text(message.get("reasoning")),
        prompt_tokens=_count(usage, "prompt_tokens"),
        completion_tokens=_count(usage, "completion_tokens"),
    )
    return reply, _text(choice.get("finish_reason"))


def _content(value: Any) -> str:
    """Content as one string; some servers send it as a list of parts."""
    if isinstance(value, list):
        return "".join(_text(part.get("text")) for part in value if isinstance(part, dict))
    return _text(value)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _count(usage: Any, name: str) -> int:
    value = usage.get(name) if isinstance(usage, dict) else None
    return value if isinstance(value, int) and value >= 0 else 0
