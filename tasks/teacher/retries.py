"""When a request is tried again, and after how long: the one owner of retries (the client's own are off).

A rate limit (429) says nothing against the request: its key rests and the request waits, for as long as it may take. Server
errors, time-outs and cut connections use up tries.
"""

from __future__ import annotations

import contextlib
import email.utils
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import openai
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, wait_exponential_jitter

RETRIED_STATUS = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})
OUT_OF_MONEY = frozenset({"insufficient_quota", "billing_hard_limit_reached", "billing_not_active"})
LONGEST_WAIT = 3600.0
"""Seconds that a Retry-After is honoured for; a server that asks for more is asked again after this."""

_backoff = wait_exponential_jitter(initial=0.5, max=30.0, jitter=0.5)


class KeyRefused(Exception):
    """One key was refused and others are left: the request goes out again with another."""


class Patience:
    """How long one request may take with all its tries and waits; waits for limits of our own do not count.

    Attributes:
        until: when it is over, on time.monotonic().
    """

    def __init__(self, seconds: float) -> None:
        self.until = time.monotonic() + seconds

    @property
    def left(self) -> float:
        """Seconds that are left; negative where it is over."""
        return self.until - time.monotonic()

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """A wait that does not count."""
        start = time.monotonic()
        try:
            yield
        finally:
            self.until += time.monotonic() - start


def retrying(attempts: int, patience: Patience, sleep: Callable[[float], Awaitable[None]]) -> AsyncRetrying:
    """A retry loop; the last error comes through unchanged.

    Args:
        attempts: tries that may fail for other reasons than a rate limit or a refused key.
        patience: with all tries and waits; a wait that would exceed it is not begun.
        sleep: waits between tries.
    """
    failed = 0

    def stop(state: RetryCallState) -> bool:
        nonlocal failed
        error = state.outcome.exception() if state.outcome else None
        failed += not (is_rate_limit(error) or isinstance(error, KeyRefused))
        return failed >= attempts or state.upcoming_sleep > patience.left

    return AsyncRetrying(stop=stop, wait=_wait, retry=retry_if_exception(is_transient), sleep=sleep, reraise=True)


def is_transient(error: BaseException) -> bool:
    """True for rate limits, server errors, timeouts and cut connections; False where the money is used up."""
    if isinstance(error, openai.APIStatusError):
        return error.status_code in RETRIED_STATUS and not is_out_of_money(error)
    return isinstance(error, openai.APIConnectionError | TimeoutError | KeyRefused)


def is_rate_limit(error: BaseException | None) -> bool:
    """True where the endpoint wants fewer requests."""
    return isinstance(error, openai.APIStatusError) and error.status_code == 429 and not is_out_of_money(error)


def is_out_of_money(error: openai.APIStatusError) -> bool:
    """True where the account behind the key may ask for nothing more; some endpoints say so with a 429."""
    return error.status_code == 402 or bool(OUT_OF_MONEY & {error.code, error.type})


def asked_wait(error: openai.APIStatusError) -> float | None:
    """Seconds that the endpoint asks to wait, or None if it does not say."""
    return retry_after(error.response.headers.get("retry-after"), time.time())


def retry_after(value: str | None, now: float) -> float | None:
    """Seconds that a Retry-After header asks for (a number, or a date), or None if it asks for nothing readable."""
    if not value:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = email.utils.parsedate_to_datetime(value).timestamp() - now
        except (TypeError, ValueError):
            return None
    return min(max(seconds, 0.0), LONGEST_WAIT) if seconds == seconds else None


def _wait(state: RetryCallState) -> float:
    error: Any = state.outcome.exception() if state.outcome else None
    if is_rate_limit(error) or isinstance(error, KeyRefused):
        return 0.0  # the key rests; another may be free
    asked = asked_wait(error) if isinstance(error, openai.APIStatusError) else None
    return _backoff(state) if asked is None else asked
