"""What went wrong with a request, in one line without secrets, and what to do about it."""

from __future__ import annotations

import openai

from tasks.teacher.answers import NotAChatCompletion
from tasks.teacher.endpoint import Endpoint
from tasks.teacher.failed import OutOfTime, RequestFailed
from tasks.teacher.keys import NoKeyInTime, NoKeyLeft
from tasks.teacher.purse import TooDear
from tasks.teacher.retries import is_transient
from thinkrec_core.config.reflections import TeacherConfig
from thinkrec_core.errors import TeacherError, one_line


def request_failed(error: Exception, tries: int, endpoint: Endpoint, config: TeacherConfig) -> RequestFailed:
    """`error` of the client library, or of the limits around it, as a RequestFailed."""
    return RequestFailed(
        endpoint.redacted(_told(error, tries, config)),
        transient=is_transient(error) or isinstance(error, NoKeyInTime | OutOfTime | TooDear),
        own=isinstance(error, TooDear),
        next_step=_next_step(error, config),
    )


def teacher_error(failure: RequestFailed, endpoint: Endpoint) -> TeacherError:
    """The error of a run none of whose requests would fare better than `failure`."""
    return TeacherError(
        f"teacher at {endpoint.shown_url} {failure}", "an OpenAI-compatible chat endpoint", failure.next_step
    )


def was_sent(error: BaseException) -> bool:
    """False where no connection came about, so that nothing can be billed."""
    return not type(error.__cause__).__name__.startswith("Connect")


def _told(error: Exception, tries: int, config: TeacherConfig) -> str:
    after = f" ({tries} tries)" if tries > 1 else ""
    match error:
        case NoKeyInTime():
            return f"limits the rate for longer than teacher.request_seconds {config.request_seconds:g}{after}"
        case OutOfTime():
            return f"took longer than teacher.request_seconds {config.request_seconds:g} with all waits{after}"
        case NoKeyLeft():
            return "refused every key"
        case openai.APITimeoutError() | TimeoutError():
            return f"did not answer within {config.timeout_seconds:g} s{after}"
        case openai.APIConnectionError():
            verb = "broke the connection" if was_sent(error) else "refuses the connection"
            return f"{verb}: {one_line(str(error.__cause__ or error), 160)}{after}"
        case openai.APIStatusError():
            return f"answered {error.status_code}: {one_line(_message(error), 160)}{after}"
    return one_line(str(error), 200)


def _message(error: openai.APIStatusError) -> str:
    body = error.body
    if isinstance(body, dict):
        detail = body.get("message") or body.get("detail") or body.get("error")
        if isinstance(detail, str):
            return detail
    return error.response.text or error.response.reason_phrase


def _next_step(error: Exception, config: TeacherConfig) -> str:
    if isinstance(error, openai.APIStatusError):
        if error.status_code in (401, 402, 403):
            return f"check the key in {config.api_key_env}"
        if error.status_code in (400, 404, 422):
            return f"check teacher.base_url and teacher.model {config.model!r}"
    if isinstance(error, NoKeyLeft):
        return f"check the keys in {config.api_key_env}"
    if isinstance(error, NotAChatCompletion):
        return "check teacher.base_url; it ends in /v1"
    return "check teacher.base_url, and that the server runs"
