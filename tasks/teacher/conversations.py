"""Hold many dialogues with the teacher at once, through the journal: what was answered once is never asked again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from storage.journal import Entry, Journal, request_key
from storage.journal_writer import JournalWriter
from tasks.teacher.failed import RequestFailed, Stopped
from tasks.teacher.stopping import Stopping
from thinkrec_core.config.reflections import TeacherConfig
from thinkrec_core.reflection.dialogue import Dialogue, Request
from thinkrec_core.reflection.trace import Reply
from thinkrec_core.seeds import derived_seed

if TYPE_CHECKING:
    from tasks.teacher.client import TeacherClient

SEED_LIMIT = 2**31
"""Servers keep a seed in 32 bits."""


@dataclass(frozen=True)
class Call:
    """One round of one dialogue: what was asked, what came, and where from.

    Attributes:
        row: row of samples_train.
        round: from 1.
        request: messages and parameters.
        response: content, thinking, finish reason and tokens; or the error.
        status: "ok" or "failed".
        reused: the answer came from the journal.
        seconds: of the request when it was made.
        attempts: tries that it took then.
    """

    row: int
    round: int
    request: Mapping[str, Any]
    response: Mapping[str, Any]
    status: str
    reused: bool
    seconds: float
    attempts: int


@dataclass(frozen=True)
class Asking:
    """How requests are made and keyed.

    Attributes:
        config: temperature, top_p, extra_body and concurrency are used.
        model: the name in the journal; for a local server with the digest of its weights.
        seed: the run's seed; every (row, round) derives its own.
    """

    config: TeacherConfig
    model: str
    seed: int

    def parameters(self, row: int, request: Request) -> dict[str, Any]:
        """The parameters of the API call, without the model."""
        return {
            "messages": [dict(message) for message in request.messages],
            "max_tokens": request.max_tokens,
            "temperature": self.config.temperature,
            "top_p": self.config.top_p,
            "seed": derived_seed(self.seed, "teacher", row, request.round) % SEED_LIMIT,
        }

    def request(self, parameters: Mapping[str, Any], round_number: int) -> dict[str, Any]:
        """What the journal keeps of a request, and what its key hashes."""
        return {"model": self.model, "round": round_number, **parameters, **self.config.extra_body}

    def key(self, parameters: Mapping[str, Any], round_number: int) -> str:
        """The journal's key of a request."""
        return request_key(self.request(parameters, round_number))


Observer = Callable[[Call], None]
Progress = Callable[[Dialogue], None]


def replay(dialogue: Dialogue, row: int, asking: Asking, journal: Journal, observe: Observer) -> Dialogue:
    """`dialogue` as far as the journal's answers carry it, without any request."""
    while dialogue.status == "open":
        request = dialogue.next_request()
        parameters = asking.parameters(row, request)
        kept = journal.get(asking.key(parameters, request.round))
        if kept is None:
            break
        observe(_call(row, request, parameters, kept, reused=True))
        dialogue = dialogue.receive(Reply(**kept["reply"]))
    return dialogue


async def converse(
    dialogues: Sequence[Dialogue],
    rows: Sequence[int],
    client: TeacherClient,
    asking: Asking,
    journal: Journal,
    observe: Observer,
    finished: Progress,
    stopping: Stopping | None = None,
) -> list[Dialogue]:
    """The finished dialogues, in the order given. A row whose request fails is rejected with its reason.

    As many dialogues as `teacher.concurrency` are held at a time. The first trouble that would befall every request, or
    `stopping` from outside, ends the asking: what is in flight may finish and is kept.

    Args:
        dialogues: open dialogues.
        rows: their rows in samples_train.
        client: an open client.
        journal: each answer is on the disk before it counts.
        observe: told of every call.
        finished: told of every dialogue that ends; what it raises stops the asking.
        stopping: the switch that ends the asking early.

    Raises:
        TeacherError: the first request failed, no key is left, or a limit of the run was met.
        StoreError: the journal cannot be written.
        BaseException: whatever `stopping` was given as its reason.
    """
    held, stop = list(dialogues), stopping or Stopping()
    stop.also(client.stop)
    todo = iter(range(len(held)))

    async def hold(index: int, writer: JournalWriter) -> None:
        row = rows[index]
        while held[index].status == "open":
            request = held[index].next_request()
            parameters = asking.parameters(row, request)
            try:
                answer = await client.ask(**parameters)
            except RequestFailed as failure:
                observe(Call(row, request.round, parameters, {"error": str(failure)}, "failed", False, 0.0, 0))
                held[index] = held[index].fail(str(failure), transient=failure.transient)
                break
            asked = asking.request(parameters, request.round)
            kept = await writer.append(Entry(request_key(asked), answer.record(), asked))
            observe(_call(row, request, parameters, kept, reused=False))
            held[index] = held[index].receive(Reply(**kept["reply"]))
        finished(held[index])

    async def work(writer: JournalWriter) -> None:
        try:
            for index in todo:
                await hold(index, writer)
        except Stopped:
            pass
        except Exception as error:
            stop(error)

    async with JournalWriter(journal) as writer:
        crew = [asyncio.create_task(work(writer)) for _ in range(min(asking.config.concurrency, len(held)))]
        if crew:
            await stop.until_done(crew)
    if stop.reason is not None:
        raise stop.reason
    return held


def _call(row: int, request: Request, parameters: Mapping[str, Any], kept: Mapping[str, Any], *, reused: bool) -> Call:
    response = {**kept["reply"], "finish_reason": kept["finish_reason"]}
    return Call(row, request.round, parameters, response, "ok", reused, kept["seconds"], kept["attempts"])
