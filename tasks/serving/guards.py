"""What stands before every request: the token, the size and pace of its body, and the headers of every answer."""

from __future__ import annotations

import asyncio
import hmac
import json
import time
from typing import TYPE_CHECKING

from tasks.serving.limits import Limits
from tasks.serving.metrics import Metrics

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

OPEN = frozenset({"/", "/page.css", "/page.js", "/health"})
"""Paths that need no token: the page holds no data of its own."""
HEADERS = [
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
    (
        b"content-security-policy",
        b"default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
        b"base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
]


DRAINED = 16 * 2**20
"""Bytes of a body that is too large that are read and dropped before the connection is closed."""


class Guards:
    """ASGI middleware: 401 without the token, 413 and 408 for bodies that are too large or too slow; counts answers."""

    def __init__(
        self, app: ASGIApp, limits: Limits, metrics: Metrics, token: str | None, paths: frozenset[str]
    ) -> None:
        self._app, self._limits, self._metrics, self._paths = app, limits, metrics, paths
        self._expected = f"Bearer {token}".encode() if token else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request; anything but HTTP passes through."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path = scope["path"] if scope["path"] in self._paths else "other"
        started = time.monotonic()

        async def answered(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", []), *HEADERS]
                self._metrics.requests.labels(path, message["status"]).inc()
                self._metrics.seconds.labels(path).observe(time.monotonic() - started)
            await send(message)

        headers = dict(scope["headers"])
        if self._expected is not None and scope["path"] not in OPEN:
            given = headers.get(b"authorization", b"")
            if not hmac.compare_digest(given, self._expected):
                await _answer(answered, 401, "a bearer token is needed", [(b"www-authenticate", b"Bearer")])
                return
        length = headers.get(b"content-length", b"0")
        if not length.isdigit() or len(length) > 12 or int(length) > DRAINED:
            await _answer(
                answered, 413, f"bodies may have {self._limits.body_bytes} bytes", [(b"connection", b"close")]
            )
            return
        try:
            async with asyncio.timeout(self._limits.body_seconds):
                body = await self._body(receive)
        except TimeoutError:
            await _answer(answered, 408, "the body came too slowly", [(b"connection", b"close")])
            return
        if body is None:
            await _answer(
                answered, 413, f"bodies may have {self._limits.body_bytes} bytes", [(b"connection", b"close")]
            )
            return
        given_out = False

        async def replayed() -> Message:
            nonlocal given_out
            if given_out:
                return await receive()  # the disconnect, some time
            given_out = True
            return {"type": "http.request", "body": body, "more_body": False}

        await self._app(scope, replayed, answered)

    async def _body(self, receive: Receive) -> bytes | None:
        """The whole body; None if it is too large."""
        parts: list[bytes] = []
        size = 0
        while True:
            message = await receive()
            if message["type"] != "http.request":
                return b"".join(parts)
            parts.append(message.get("body", b""))
            size += len(parts[-1])
            if size > self._limits.body_bytes:
                parts.clear()  # read on, keeping nothing: a client that is still sending would not see the answer
            if size > DRAINED or not message.get("more_body", False):
                return b"".join(parts) if size <= self._limits.body_bytes else None


async def _answer(send: Send, status: int, detail: str, headers: list[tuple[bytes, bytes]]) -> None:
    body = json.dumps({"detail": detail}).encode()
    told = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode()), *headers]
    await send({"type": "http.response.start", "status": status, "headers": told})
    await send({"type": "http.response.body", "body": body})
