"""Ask an OpenAI-compatible chat endpoint: bounded concurrency and rate, one retry policy, no secrets in messages."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import openai
from aiolimiter import AsyncLimiter

from tasks.teacher.answers import NotAChatCompletion, parse_completion
from tasks.teacher.endpoint import Endpoint
from tasks.teacher.retries import is_transient, retrying
from thinkrec_core.config.reflections import TeacherConfig
from thinkrec_core.errors import TeacherError, one_line
from thinkrec_core.reflection.trace import Reply


@dataclass(frozen=True)
class Answer:
    """One answered request: the reply, why it ended, wall seconds of the last try, and the number of tries."""

    reply: Reply
    finish_reason: str
    seconds: float
    attempts: int


class RequestFailed(Exception):
    """A request that could not be answered, in one line without secrets."""


class TeacherClient:
    """A client of one endpoint, used as an async context manager.

    The first request goes out alone. If it fails, so would all others: that is a TeacherError for each, and nothing more
    is sent. Requests that fail later raise RequestFailed, and only their row suffers. A later answer that is no chat
    completion came whole and may have been billed: it is an answer, with the start of its body as `reply.unreadable`.

    Args:
        endpoint: where and with which key.
        config: limits: concurrency, requests_per_minute, timeout_seconds, attempts.
        before_first: called with the endpoint before anything is sent.
    """

    def __init__(
        self, endpoint: Endpoint, config: TeacherConfig, before_first: Callable[[Endpoint], None] | None = None
    ) -> None:
        self.endpoint = endpoint
        self._config = config
        self._before_first = before_first
        # Proxy settings of the environment must not divert requests to this machine.
        transport = openai.DefaultAsyncHttpxClient(trust_env=not endpoint.is_local)
        self._client = openai.AsyncOpenAI(
            base_url=endpoint.base_url,
            api_key=endpoint.key or "none",
            organization="",
            project="",
            max_retries=0,
            timeout=config.timeout_seconds,
            http_client=transport,
        )
        self._slots = asyncio.Semaphore(config.concurrency)
        self._rate = AsyncLimiter(config.requests_per_minute, 60.0)
        self._gate = asyncio.Lock()
        self._proven = False
        self._refused: TeacherError | None = None

    async def ask(self, **parameters: Any) -> Answer:
        """The answer to one chat completion; `parameters` are those of the API, without `model`.

        Raises:
            TeacherError: the first request of this client failed.
            RequestFailed: a later one did.
        """
        async with self._slots:
            if not self._proven:
                async with self._gate:
                    if self._refused is not None:
                        raise self._refused
                    if not self._proven:
                        return await self._ask_first(parameters)
            return await self._ask(parameters)

    async def _ask_first(self, parameters: dict[str, Any]) -> Answer:
        if self._before_first is not None:
            self._before_first(self.endpoint)
        try:
            answer = await self._ask(parameters)
        except RequestFailed as failure:
            self._refused = TeacherError(
                f"teacher at {self.endpoint.shown_url} {failure}",
                "an OpenAI-compatible chat endpoint",
                _next_step(failure.__cause__, self._config),
            )
            raise self._refused from None
        self._proven = True
        return answer

    async def _ask(self, parameters: dict[str, Any]) -> Answer:
        attempts = 0
        try:
            async for attempt in retrying(self._config.attempts):
                with attempt:
                    attempts += 1
                    async with self._rate:
                        start = time.monotonic()
                        text = await self._post(parameters)
                        seconds = time.monotonic() - start
            reply, finish_reason = self._read(text)
        except (openai.OpenAIError, TimeoutError, NotAChatCompletion) as error:
            raise RequestFailed(self.endpoint.redacted(_told(error, attempts, self._config))) from error
        return Answer(reply, finish_reason, seconds, attempts)

    def _read(self, text: str) -> tuple[Reply, str]:
        try:
            return parse_completion(text)
        except NotAChatCompletion as error:
            if not self._proven:
                raise  # most likely no teacher at all
            return Reply(unreadable=self.endpoint.redacted(str(error))), ""

    async def _post(self, parameters: dict[str, Any]) -> str:
        # The client's own timeout is one per read: a body that drips in would never reach it.
        async with asyncio.timeout(self._config.timeout_seconds):
            create = self._client.chat.completions.with_raw_response.create
            return (await create(model=self.endpoint.wire_model, **parameters)).text

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._client.close()


def _told(error: Exception, attempts: int, config: TeacherConfig) -> str:
    """What came back, in one line."""
    tries = f" ({attempts} tries)" if attempts > 1 else ""
    if isinstance(error, openai.APITimeoutError | TimeoutError):
        return f"did not answer within {config.timeout_seconds:g} s{tries}"
    if isinstance(error, openai.APIConnectionError):
        return f"refuses the connection: {one_line(str(error.__cause__ or error), 160)}{tries}"
    if isinstance(error, openai.APIStatusError):
        return f"answered {error.status_code}: {one_line(_message(error), 160)}{tries}"
    return one_line(str(error), 200)


def _message(error: openai.APIStatusError) -> str:
    body = error.body
    if isinstance(body, dict):
        detail = body.get("message") or body.get("detail") or body.get("error")
        if isinstance(detail, str):
            return detail
    return error.response.text or error.response.reason_phrase


def _next_step(error: BaseException | None, config: TeacherConfig) -> str:
    if isinstance(error, openai.APIStatusError):
        if error.status_code in (401, 403):
            return f"check the key in {config.api_key_env}"
        if error.status_code in (400, 404, 422):
            return f"check teacher.base_url and teacher.model {config.model!r}"
    if error is not None and is_transient(error):
        return "check teacher.base_url, and that the server runs"
    return "check teacher.base_url; it ends in /v1"
