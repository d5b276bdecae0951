"""When a request is tried again, and after how long: the one owner of retries (the client's own are off)."""

from __future__ import annotations

import email.utils
import time
from typing import Any

import openai
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, stop_after_attempt, wait_exponential_jitter

RETRIED_STATUS = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})
LONGEST_WAIT = 3600.0
"""Seconds that a Retry-After is honoured for; a server that asks for more is asked again after this."""

_backoff = wait_exponential_jitter(initial=0.5, max=30.0, jitter=0.5)


def retrying(attempts: int) -> AsyncRetrying:
    """A retry loop of at most `attempts` tries; the last error comes through unchanged."""
    return AsyncRetrying(
        stop=stop_after_attempt(attempts), wait=_wait, retry=retry_if_exception(is_transient), reraise=True
    )


def is_transient(error: BaseException) -> bool:
    """True for rate limits, server errors, timeouts and cut connections."""
    if isinstance(error, openai.APIStatusError):
        return error.status_code in RETRIED_STATUS
    return isinstance(error, openai.APIConnectionError | TimeoutError)


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
    asked = None
    if isinstance(error, openai.APIStatusError):
        asked = retry_after(error.response.headers.get("retry-after"), time.time())
    backoff = _backoff(state)
    return backoff if asked is None else asked
