"""A batch endpoint made of files, for tests: it takes requests.jsonl and gives an output file and an error file."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

Answer = Callable[[dict[str, Any], int], "tuple[int, Any]"]
"""From the body of a request and its place to (status, body of the response); status 0 is a line that never ran."""


def completion(content: str | None, **message: Any) -> dict[str, Any]:
    """The body of a chat completion."""
    said = {"role": "assistant", "content": content, **message}
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "model": "m",
        "choices": [{"index": 0, "finish_reason": "stop", "message": said}],
        "usage": {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110},
    }


def run_batch(requests: Path, answer: Answer) -> tuple[Path, Path]:
    """(output file, error file) of the batch `requests`, lines in another order than they came.

    What the endpoint would refuse before it begins fails here: a line that is no request, or a custom_id given twice.
    """
    lines = [json.loads(text) for text in requests.read_text(encoding="utf-8").splitlines()]
    assert lines, "an empty batch"
    for line in lines:
        assert set(line) == {"custom_id", "method", "url", "body"}
        assert (line["method"], line["url"]) == ("POST", "/v1/chat/completions")
        assert isinstance(line["body"]["model"], str)
        assert line["body"]["messages"]
    assert len({line["custom_id"] for line in lines}) == len(lines)
    output, errors = requests.with_suffix(".output"), requests.with_suffix(".errors")
    with output.open("w", encoding="utf-8") as good, errors.open("w", encoding="utf-8") as bad:
        for place in np.random.default_rng(len(lines)).permutation(len(lines)).tolist():
            status, body = answer(lines[place]["body"], place)
            response = {"status_code": status, "request_id": f"req-{place}", "body": body} if status else None
            error = None if status else {"code": "batch_expired", "message": "This request could not be executed"}
            result = {"id": f"batch_req_{place}", "custom_id": lines[place]["custom_id"]}
            (good if status == 200 else bad).write(json.dumps({**result, "response": response, "error": error}) + "\n")
    return output, errors
