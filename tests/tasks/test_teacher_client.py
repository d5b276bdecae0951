"""The client against a real HTTP server: what it sends, what it retries, what it refuses, what it never tells."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from tasks.teacher import keys, retries
from tasks.teacher.client import Answer, TeacherClient
from tasks.teacher.endpoint import Endpoint, remote_endpoint
from tasks.teacher.failed import RequestFailed
from tests import chat_replies
from thinkrec_core.config.reflections import TeacherConfig
from thinkrec_core.errors import TeacherError

KEY = "sk-planted-7f3a9c1e"
PATH = "/v1/chat/completions"
MESSAGES = [{"role": "user", "content": "Yes or No?"}]
Handler = Callable[[Request], Response]


def completion(content: str | None = "Yes. Because.", **message: Any) -> Response:
    return chat_replies.completion(content, 11, 7, **message)


def refusal(status: int, message: str = "no", **headers: str) -> Response:
    body = json.dumps({"error": {"message": message}})
    return Response(body, status, headers={name.replace("_", "-"): value for name, value in headers.items()})


@pytest.fixture(scope="module")
def make_httpserver() -> Iterator[HTTPServer]:
    with HTTPServer(threaded=True) as server:
        yield server


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retries, "_backoff", lambda state: 0.01)
    monkeypatch.setattr(keys, "FIRST_REST", 0.05)


def ask(server: HTTPServer, count: int = 1, before: Any = None, **config: Any) -> list[Answer | BaseException]:
    """`count` answers at once, exceptions among them, from a client with the planted key."""
    teacher = TeacherConfig(base_url=server.url_for("/v1"), model="m", **config)
    endpoint = remote_endpoint(teacher, {teacher.api_key_env: KEY})

    async def run() -> list[Answer | BaseException]:
        async with TeacherClient(endpoint, teacher, before) as client:
            asked = (client.ask(messages=MESSAGES, max_tokens=9, temperature=0.0, seed=5) for _ in range(count))
            return await asyncio.gather(*asked, return_exceptions=True)

    return asyncio.run(run())


def serve(server: HTTPServer, *answers: Response | Handler) -> list[Request]:
    """Give `answers` one after the other, the last one for ever; the list fills with the requests."""
    seen: list[Request] = []

    def handle(request: Request) -> Response:
        seen.append(request)
        answer = answers[min(len(seen), len(answers)) - 1]
        return answer if isinstance(answer, Response) else answer(request)

    server.expect_request(PATH, method="POST").respond_with_handler(handle)
    return seen


def test_the_request_and_the_reply(httpserver: HTTPServer) -> None:
    seen = serve(httpserver, completion("Yes.", reasoning_content="thought", reasoning="other"))
    (answer,) = ask(httpserver)
    assert isinstance(answer, Answer)
    assert json.loads(seen[0].get_data()) == {
        "model": "m",
        "messages": MESSAGES,
        "max_tokens": 9,
        "temperature": 0.0,
        "seed": 5,
    }
    assert seen[0].headers["Authorization"] == f"Bearer {KEY}"
    assert (answer.reply.content, answer.reply.reasoning_content, answer.reply.reasoning) == (
        "Yes.",
        "thought",
        "other",
    )
    assert (answer.reply.prompt_tokens, answer.reply.completion_tokens) == (11, 7)
    assert (answer.finish_reason, answer.attempts) == ("stop", 1)


@pytest.mark.parametrize("content", [None, ""])
def test_an_empty_answer_is_an_answer(httpserver: HTTPServer, content: str | None) -> None:
    serve(httpserver, completion(content, reasoning="long"))
    (answer,) = ask(httpserver)
    assert isinstance(answer, Answer)
    assert (answer.reply.answer, answer.reply.reasoning) == ("", "long")


def test_content_in_parts_is_joined(httpserver: HTTPServer) -> None:
    parts: Any = [{"type": "text", "text": "Yes. "}, {"type": "text", "text": "Because."}]
    serve(httpserver, completion(parts))
    (answer,) = ask(httpserver)
    assert isinstance(answer, Answer)
    assert answer.reply.content == "Yes. Because."


@pytest.mark.parametrize("status", [429, 500, 502, 503])
def test_a_passing_failure_is_tried_again(httpserver: HTTPServer, status: int) -> None:
    seen = serve(httpserver, refusal(status), refusal(status), completion())
    (answer,) = ask(httpserver)
    assert isinstance(answer, Answer)
    assert answer.attempts == len(seen) == 3


def test_retry_after_is_honoured(httpserver: HTTPServer) -> None:
    serve(httpserver, refusal(429, Retry_After="0.6"), completion())
    start = time.monotonic()
    (answer,) = ask(httpserver)
    assert isinstance(answer, Answer)
    assert time.monotonic() - start >= 0.6


def test_a_timeout_and_a_cut_connection_are_tried_again(httpserver: HTTPServer) -> None:
    def slow(request: Request) -> Response:
        time.sleep(0.5)
        return completion()

    def cut(request: Request) -> Response:
        request.environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
        return completion()

    seen = serve(httpserver, slow, cut, completion())
    (answer,) = ask(httpserver, timeout_seconds=0.3)
    assert isinstance(answer, Answer)
    assert len(seen) == 3


def test_attempts_are_bounded_and_counted_in_the_message(httpserver: HTTPServer) -> None:
    seen = serve(httpserver, refusal(500, "overloaded"))
    (error,) = ask(httpserver, attempts=3)
    assert isinstance(error, TeacherError)
    assert len(seen) == 3
    assert "answered 500: overloaded (3 tries)" in str(error)


@pytest.mark.parametrize(
    ("status", "hint"), [(401, "check the key in"), (403, "check the key in"), (404, "teacher.model 'm'")]
)
def test_a_refusal_of_the_first_request_stops_all_after_one(httpserver: HTTPServer, status: int, hint: str) -> None:
    seen = serve(httpserver, refusal(status, f"key {KEY} is unknown"))
    results = ask(httpserver, count=5)
    assert all(isinstance(result, TeacherError) for result in results)
    assert f"answered {status}: key [key] is unknown" in str(results[0])
    assert httpserver.url_for("/v1") in str(results[0])
    assert hint in str(results[0])
    assert len(seen) == 1


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ("<html>Welcome</html>", "text/html"),
        ('{"detail": "hello"}', "application/json"),
        ('{"choices": []}', "application/json"),
        ('{"choices": [{"message": {"role": "assistant"}}]}', "application/json"),
        ("[1, 2]", "application/json"),
        ("", "text/plain"),
    ],
)
def test_garbage_is_quoted_in_one_line(httpserver: HTTPServer, body: str, kind: str) -> None:
    serve(httpserver, Response(body, content_type=kind))
    (error,) = ask(httpserver)
    assert isinstance(error, TeacherError)
    assert "\n" not in str(error)
    assert (body[:10] or "empty body") in str(error)
    assert "OpenAI-compatible" in str(error)


def test_a_refused_connection_is_told_with_its_url() -> None:
    teacher = TeacherConfig(base_url="http://127.0.0.1:9/v1", model="m", attempts=2)

    async def run() -> None:
        async with TeacherClient(remote_endpoint(teacher, {}), teacher) as client:
            await client.ask(messages=MESSAGES)

    with pytest.raises(
        TeacherError, match=r"http://127\.0\.0\.1:9/v1 refuses the connection.*; check teacher\.base_url"
    ):
        asyncio.run(run())


def test_later_failures_belong_to_their_row(httpserver: HTTPServer) -> None:
    serve(httpserver, completion(), refusal(400, "too long"), Response("oops"), completion())
    results = ask(httpserver, count=4, concurrency=1)
    assert [type(result) for result in results] == [Answer, RequestFailed, Answer, Answer]
    assert str(results[1]) == "answered 400: too long"


def test_a_later_answer_that_is_no_completion_is_kept_as_an_answer(httpserver: HTTPServer) -> None:
    seen = serve(httpserver, completion(), Response(f"oops {KEY}"), completion())
    results = ask(httpserver, count=3, concurrency=1)
    assert [result.reply.unreadable for result in results if isinstance(result, Answer)] == [
        "",
        "answered 'oops [key]'",
        "",
    ]
    assert len(seen) == 3


def test_a_body_that_drips_in_is_cut_at_the_time_limit(httpserver: HTTPServer) -> None:
    def drip(request: Request) -> Response:
        def letters() -> Iterator[bytes]:
            for _ in range(40):
                time.sleep(0.05)
                yield b" "

        return Response(letters(), content_type="application/json")

    serve(httpserver, drip)
    start = time.monotonic()
    (error,) = ask(httpserver, timeout_seconds=0.3, attempts=1)
    assert isinstance(error, TeacherError)
    assert "did not answer within 0.3 s" in str(error)
    assert time.monotonic() - start < 1.5


def test_the_first_request_goes_out_alone_and_is_announced_before(httpserver: HTTPServer) -> None:
    log: list[str] = []

    def handle(request: Request) -> Response:
        log.append("in")
        time.sleep(0.1)
        log.append("out")
        return completion()

    serve(httpserver, handle)
    ask(httpserver, count=4, before=lambda endpoint: log.append(endpoint.host))
    assert log[0] == f"localhost:{httpserver.port}"
    assert log[1:3] == ["in", "out"]
    assert log.count(log[0]) == 1


def test_no_more_requests_than_allowed_are_in_flight(httpserver: HTTPServer) -> None:
    flying, most = 0, 0

    def handle(request: Request) -> Response:
        nonlocal flying, most
        flying += 1
        most = max(most, flying)
        time.sleep(0.05)
        flying -= 1
        return completion()

    serve(httpserver, handle)
    ask(httpserver, count=9, concurrency=3)
    assert 1 < most <= 3


def test_waits_for_the_pace_are_no_part_of_the_time_of_a_request(httpserver: HTTPServer) -> None:
    seen = serve(httpserver, completion())
    start = time.monotonic()
    results = ask(httpserver, count=4, requests_per_minute=60, request_seconds=0.9)
    assert all(isinstance(result, Answer) for result in results)
    assert len(seen) == 4
    assert time.monotonic() - start >= 2.9


def test_a_first_answer_that_is_damaged_json_counts_and_five_of_them_end_the_asking(httpserver: HTTPServer) -> None:
    damaged = Response('{"choices": [', content_type="application/json")
    seen = serve(httpserver, damaged, damaged, completion())
    results = ask(httpserver, count=4)
    assert [bool(result.reply.unreadable) for result in results if isinstance(result, Answer)] == [
        True,
        True,
        False,
        False,
    ]
    httpserver.clear()
    # A teacher it is, after all: a refusal between them belongs to its row.
    serve(httpserver, damaged, refusal(400), completion())
    assert [type(result) for result in ask(httpserver, count=3)] == [Answer, RequestFailed, Answer]
    httpserver.clear()
    seen = serve(httpserver, damaged)
    results = ask(httpserver, count=8)
    assert len(seen) == 5
    assert [type(result) for result in results] == [Answer] * 5 + [TeacherError] * 3
    assert "gave 5 damaged answers and no readable one" in str(results[-1])


def test_the_key_is_in_no_repr_log_or_message(
    httpserver: HTTPServer, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    serve(httpserver, completion(), refusal(401, f"Incorrect API key provided: {KEY}"), Response(f"<b>{KEY}</b>"))
    results = ask(httpserver, count=3, concurrency=1)
    out, err = capfd.readouterr()
    told = [repr(Endpoint("http://h/v1", "m", (KEY,))), caplog.text, out, err, *map(str, results), *map(repr, results)]
    assert not any(KEY in text for text in told)
    assert "[key]" in str(results[1])


@pytest.mark.parametrize("url", ["localhost:8000/v1", "ftp://host/v1", "http://", "nonsense"])
def test_a_base_url_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(TeacherError, match=re.escape(repr(url))):
        remote_endpoint(TeacherConfig(base_url=url), {})


def test_a_missing_key_is_named_and_this_machine_needs_none() -> None:
    with pytest.raises(TeacherError, match="environment variable MY_KEY is not set"):
        remote_endpoint(TeacherConfig(base_url="https://api.example.org/v1", api_key_env="MY_KEY"), {"MY_KEY": " "})
    assert remote_endpoint(TeacherConfig(base_url="http://127.0.0.1:8000/v1"), {}).keys == ()


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("0", 0.0),
        ("1.5", 1.5),
        ("-3", 0.0),
        ("99999", 3600.0),
        ("Thu, 01 Jan 1970 00:01:00 GMT", 50.0),
        ("soon", None),
        ("nan", None),
        ("", None),
        (None, None),
    ],
)
def test_what_a_retry_after_header_asks_for(header: str | None, seconds: float | None) -> None:
    assert retries.retry_after(header, now=10.0) == seconds
