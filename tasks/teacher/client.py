"""Ask an OpenAI-compatible chat endpoint: bounded concurrency, rate, time and money, one retry policy, no secrets told."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import math
import ssl
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any, Self

import openai

from tasks.teacher.answers import NotAChatCompletion, parse_completion
from tasks.teacher.endpoint import Endpoint
from tasks.teacher.failed import OutOfTime, RequestFailed, Stopped
from tasks.teacher.failures import request_failed, teacher_error, was_sent
from tasks.teacher.keys import Key, KeyRing, NoKeyInTime, NoKeyLeft
from tasks.teacher.pace import Pace
from tasks.teacher.purse import Purse, RunTooDear, TooDear, prompt_tokens, used_tokens
from tasks.teacher.retries import KeyRefused, Patience, asked_wait, is_out_of_money, is_rate_limit, retrying
from thinkrec_core.config.reflections import TeacherConfig
from thinkrec_core.errors import TeacherError
from thinkrec_core.reflection.trace import Reply

MOST_DAMAGED = 5
"""Damaged answers at the start, without a readable one among them, after which no more are paid for."""
POOL_SIZE = 8
"""Requests in flight per pool of connections."""


@dataclass(frozen=True)
class Answer:
    """One answered request: the reply, why it ended, wall seconds of the last try, and the number of tries."""

    reply: Reply
    finish_reason: str
    seconds: float
    attempts: int

    def record(self) -> dict[str, Any]:
        """What the journal keeps; JSON-able."""
        return {**vars(self), "reply": dict(vars(self.reply))}


class TeacherClient:
    """A client of one endpoint, used as an async context manager.

    The first request goes out alone. If it fails, so would all others: that is a TeacherError for each, and nothing more
    is sent. Requests that fail later raise RequestFailed, and only their row suffers. A later answer that is no chat
    completion came whole and may have been billed: it is an answer, with the start of its body as `reply.unreadable`. So is
    a first answer of damaged JSON; requests then go out alone until one is readable.

    Args:
        endpoint: where and with which keys.
        config: limits of concurrency, rate, time and money.
        before_first: called with the endpoint before anything is sent.

    Attributes:
        purse: what was spent.
    """

    def __init__(
        self, endpoint: Endpoint, config: TeacherConfig, before_first: Callable[[Endpoint], None] | None = None
    ) -> None:
        self.endpoint = endpoint
        self.purse = Purse(config.price, config.max_run_cost, config.max_request_cost)
        self._config = config
        self._before_first = before_first
        self._pools = _pools(endpoint, config)
        self._pool = itertools.cycle(self._pools)
        self._keys = KeyRing(endpoint.keys)
        self._pace = Pace(config.requests_per_minute, config.tokens_per_minute)
        self._slots = asyncio.Semaphore(config.concurrency)
        self._gate = asyncio.Lock()
        self._proven = False
        self._damaged = 0
        self._refused: TeacherError | None = None
        self._stopped = False
        self._idle: set[asyncio.Task[Any]] = set()

    async def ask(self, **parameters: Any) -> Answer:
        """The answer to one chat completion; `parameters` are those of the API, without `model`.

        Raises:
            TeacherError: the first request of this client failed, no key is left, or the run may spend no more.
            RequestFailed: a later one did.
            Stopped: `stop` was called before it went out.
        """
        with self._waiting():
            await self._slots.acquire()
        try:
            if self._proven:
                return await self._ask(parameters)
            with self._waiting():
                await self._gate.acquire()
            try:
                if not self._proven:
                    return await self._ask_first(parameters)
            finally:
                self._gate.release()
            return await self._ask(parameters)
        finally:
            self._slots.release()

    def stop(self) -> None:
        """Send nothing more: requests that wait for their turn raise Stopped, those in flight may finish."""
        self._stopped = True
        for task in self._idle:
            task.cancel()

    async def _ask_first(self, parameters: dict[str, Any]) -> Answer:
        if self._refused is not None:
            raise self._refused
        if self._before_first is not None:
            self._before_first(self.endpoint)
            self._before_first = None
        if self._damaged == MOST_DAMAGED:
            told = f"gave {MOST_DAMAGED} damaged answers and no readable one"
            self._refused = teacher_error(RequestFailed(told, transient=False), self.endpoint)
            raise self._refused
        try:
            answer = await self._ask(parameters)
        except RequestFailed as failure:
            if failure.own or self._damaged:
                raise
            self._refused = teacher_error(failure, self.endpoint)
            raise self._refused from None
        if answer.reply.unreadable:
            self._damaged += 1
        else:
            self._proven = True
        return answer

    async def _ask(self, parameters: dict[str, Any]) -> Answer:
        tries, patience = 0, Patience(self._config.request_seconds)
        try:
            async for attempt in retrying(self._config.attempts, patience, self._rest):
                with attempt:
                    tries += 1
                    answer = await self._try(parameters, patience)
            return replace(answer, attempts=tries)
        except (
            openai.OpenAIError,
            TimeoutError,
            NotAChatCompletion,
            NoKeyInTime,
            NoKeyLeft,
            OutOfTime,
            TooDear,
        ) as error:
            failure = request_failed(error, tries, self.endpoint, self._config)
        except RunTooDear:
            raise TeacherError(
                f"teacher.max_run_cost {self._config.max_run_cost:g} is reached: {self.purse.spent:.4g} spent on answers, "
                f"{self.purse.possibly:.4g} perhaps on tries that were cut",
                next_step="raise it, or run the same command again: answers so far are kept",
            ) from None
        # Raised out here without the error behind it: a traceback would show the server's own words, a key among them.
        if (self._proven or self._damaged) and not self._keys.alive:
            raise teacher_error(failure, self.endpoint)
        raise failure

    async def _try(self, parameters: dict[str, Any], patience: Patience) -> Answer:
        messages = parameters["messages"]
        prompt, most = prompt_tokens(messages), parameters.get("max_tokens", 0)
        with self._waiting():
            # Behind a key that rests requests gather, and go out at the pace when it wakes.
            await self._keys.awake(patience.until)
            with patience.paused():
                await self._pace.enter(prompt + most)
            key = await self._keys.acquire(patience.until)
            with patience.paused():
                aside = await self.purse.set_aside(prompt, most)
        start = time.monotonic()
        try:
            text = await self._post(key, parameters, patience.left)
        except openai.APIStatusError as error:
            self.purse.refuse(aside)
            self._pace.settle(prompt + most, 0)
            self._judge(key, error)
            raise
        except BaseException as error:
            (self.purse.lose if was_sent(error) else self.purse.refuse)(aside)
            raise
        seconds = time.monotonic() - start
        self._keys.answered(key)
        try:
            reply, finish_reason = self._read(text)
        except NotAChatCompletion:
            self.purse.lose(aside)
            raise
        used = used_tokens(reply, messages)
        self.purse.pay(aside, *used)
        self._pace.settle(prompt + most, sum(used))
        return Answer(reply, finish_reason, seconds, 1)

    def _judge(self, key: Key, error: openai.APIStatusError) -> None:
        """Let `key` rest after a rate limit; retire it where it was refused, and try another if there is one.

        Raises:
            KeyRefused: another key is left.
        """
        if is_rate_limit(error):
            self._keys.rest(key, asked_wait(error))
        elif error.status_code == 401 or is_out_of_money(error) or (error.status_code == 403 and not self._proven):
            self._keys.retire(key)
            if self._keys.alive:
                raise KeyRefused from None

    def _read(self, text: str) -> tuple[Reply, str]:
        try:
            return parse_completion(text)
        except NotAChatCompletion as error:
            if not self._proven and not error.damaged:
                raise  # most likely no teacher at all
            return Reply(unreadable=str(error)), ""

    async def _post(self, key: Key, parameters: dict[str, Any], left: float) -> str:
        body = {"model": self.endpoint.wire_model, **parameters, **self.endpoint.body}
        headers = {"Authorization": f"Bearer {key.secret}"} if key.secret else {}
        # The typed method would walk through every message by its type hints first: half of a request's CPU time.
        send = next(self._pool).post("/chat/completions", cast_to=str, body=body, options={"headers": headers})
        # The client's own timeout is one per read: a body that drips in would never reach it.
        try:
            async with asyncio.timeout(min(left, self._config.timeout_seconds)):
                return self.endpoint.redacted(await send)
        except TimeoutError:
            if left < self._config.timeout_seconds:
                raise OutOfTime from None
            raise

    async def _rest(self, seconds: float) -> None:
        with self._waiting():
            await asyncio.sleep(seconds)

    @contextlib.contextmanager
    def _waiting(self) -> Iterator[None]:
        """A wait that `stop` ends.

        Raises:
            Stopped: it did, or had been called before.
        """
        task = asyncio.current_task()
        if self._stopped or task is None:
            raise Stopped
        self._idle.add(task)
        try:
            yield
        except asyncio.CancelledError:
            if not self._stopped:
                raise
            task.uncancel()
            raise Stopped from None
        finally:
            self._idle.discard(task)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for pool in self._pools:
            await pool.close()


def _pools(endpoint: Endpoint, config: TeacherConfig) -> list[openai.AsyncOpenAI]:
    """Clients that take turns: for every request, a pool of connections looks at each one that it has."""
    trust: ssl.SSLContext | bool = True
    if endpoint.ca_bundle or endpoint.is_local:  # one context instead of one per pool
        try:
            trust = ssl.create_default_context(cafile=endpoint.ca_bundle)
        except OSError as error:
            raise TeacherError(
                f"teacher.ca_bundle '{endpoint.ca_bundle}' cannot be read ({error.strerror or error})",
                "a PEM file of certificates",
            ) from None
    return [
        openai.AsyncOpenAI(
            base_url=endpoint.base_url,
            api_key="none",  # a key of the ring goes into each request's own header
            organization="",
            project="",
            max_retries=0,
            timeout=config.timeout_seconds,
            default_headers=dict(endpoint.headers),
            # Proxy settings of the environment must not divert requests to this machine.
            http_client=openai.DefaultAsyncHttpxClient(trust_env=not endpoint.is_local, verify=trust),
        )
        for _ in range(math.ceil(config.concurrency / POOL_SIZE))
    ]
