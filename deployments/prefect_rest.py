"""Small calls to the API of a Prefect server of this machine, without the second that importing Prefect takes."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from typing import Any

from tenacity import retry, retry_if_exception, stop_after_attempt, wait_fixed

from thinkrec_core.errors import PlatformError

_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def call(url: str, body: Any, method: str = "POST") -> Any:
    """What the server answers to `body` as JSON; None where it answers nothing.

    Raises:
        PlatformError: the server refuses or does not answer.
    """
    request = urllib.request.Request(
        url, json.dumps(body).encode(), {"Content-Type": "application/json"}, method=method
    )
    try:
        text = _send(request)
        return json.loads(text) if text else None
    except (OSError, ValueError) as error:
        raise PlatformError(
            f"the Prefect server refuses {url} ({error})", next_step="thinkrec down, then thinkrec up"
        ) from None


def _busy(error: BaseException) -> bool:
    return isinstance(error, urllib.error.HTTPError) and error.code == 503


@retry(retry=retry_if_exception(_busy), stop=stop_after_attempt(6), wait=wait_fixed(2), reraise=True)
def _send(request: urllib.request.Request) -> bytes:
    """The body of the answer; a server whose database is locked for a moment says 503 and is asked again."""
    with _DIRECT.open(request, timeout=30) as response:
        body: bytes = response.read()
        return body
