"""Requests as the JSON lines of an OpenAI batch, and its results into the journal.

A file holds the next round of every dialogue that is still open. When its results are in the journal, the next file holds
the round after; it is over when no dialogue is open. `custom_id` is the round and the journal's key of the request, so a
result needs nothing but the file of requests to find its place.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from storage.journal import Entry, Journal, request_key
from storage.journal_merge import merge
from storage.new_file import new_file
from tasks.teacher.answers import NotAChatCompletion, parse_completion
from tasks.teacher.client import Answer
from tasks.teacher.conversations import Asking
from thinkrec_core.errors import StoreError, TeacherError, one_line
from thinkrec_core.reflection.dialogue import Dialogue
from thinkrec_core.reflection.trace import Reply

URL = "/v1/chat/completions"
MOST_REQUESTS = 50_000
"""Requests that OpenAI takes in one batch."""
WRITE_AGAIN = "name the file that `thinkrec reflections batch-write` wrote"


@dataclass(frozen=True)
class Written:
    """What a file of requests holds, and where the dialogues stand.

    Attributes:
        requests: lines of the file; without any, no file was written.
        rounds: lines by round.
        left: open dialogues beyond the limit of one file.
        accepted: dialogues that ended well.
        rejected: dialogues that ended without a reflection.
    """

    requests: int
    rounds: dict[int, int]
    left: int
    accepted: int
    rejected: int


@dataclass
class Read:
    """What became of the results of a batch.

    Attributes:
        added: answers that are new in the journal.
        known: answers that were there already.
        differing: results that are not the answer that the journal holds; that one stays.
        refused: lines by what the endpoint refused them for; their requests are written again.
        unknown: results of other requests.
        damaged: lines that are no results, such as the end of a file that was cut.
        unanswered: requests without an answer in the journal now.
    """

    added: int = 0
    known: int = 0
    differing: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    unknown: int = 0
    damaged: int = 0
    unanswered: int = 0


def write_batch(
    dialogues: Sequence[Dialogue], rows: Sequence[int], asking: Asking, target: Path, most: int = MOST_REQUESTS
) -> Written:
    """Write the next request of every open dialogue to `target`, which appears whole or not at all.

    Args:
        dialogues: as far as the journal carries them.
        rows: their rows.
        most: lines at most; later dialogues wait for the next file.

    Raises:
        StoreError: `target` exists already or cannot be written.
    """
    status = Counter(dialogue.status for dialogue in dialogues)
    lines, rounds = list[str](), Counter[int]()
    for dialogue, row in zip(dialogues, rows, strict=True):
        if dialogue.status == "open" and len(lines) < most:
            request = dialogue.next_request()
            lines.append(_line(asking.request(asking.parameters(row, request), request.round)))
            rounds[request.round] += 1
    if lines:
        with new_file(target) as building:
            building.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return Written(
        len(lines), dict(sorted(rounds.items())), status["open"] - len(lines), status["accepted"], status["rejected"]
    )


def read_batch(root: Path, requests: Path, results: Sequence[Path]) -> Read:
    """Put the answers in `results` into the journals of the store at `root`.

    An answer in the journal stays, whatever a result says. A refused line is no answer: the next file asks again.

    Args:
        requests: the file that `write_batch` wrote.
        results: output and error files of the batch, in any order.

    Raises:
        StoreError: a file cannot be read, or `requests` was changed.
        TeacherError: no line of `results` is an answer to a request: they belong to another file, or were all refused.
    """
    asked = dict(_requests(requests))
    read, answers = Read(), dict[str, Answer]()
    for line in _lines(results):
        _sort_in(line, asked, answers, read)
    if not any(not answer.reply.unreadable for answer in answers.values()):
        _explain(read, len(answers), requests)
    found = merge(
        root, [Entry(request_key(asked[name]), asdict(answer), asked[name]) for name, answer in answers.items()]
    )
    read.added, read.known, read.differing = found.added, found.known, len(found.differing)
    journals = {model: Journal.of(root, model) for model in {request["model"] for request in asked.values()}}
    read.unanswered = sum(request_key(request) not in journals[request["model"]] for request in asked.values())
    return read


def _line(request: Mapping[str, Any]) -> str:
    body = {name: value for name, value in request.items() if name != "round"}
    name = f"{request['round']}-{request_key(request)}"
    return json.dumps({"custom_id": name, "method": "POST", "url": URL, "body": body})


def _requests(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """(custom_id, request as the journal keeps it) of each line."""
    for number, text in enumerate(_text_lines(path), 1):
        try:
            line = json.loads(text)
            name = line["custom_id"]
            round_number, _, key = name.partition("-")
            request = {**line["body"], "round": int(round_number)}
            intact = request_key(request) == key and isinstance(request["model"], str)
        except (ValueError, KeyError, TypeError, AttributeError):
            raise StoreError(f"{path}, line {number} is no request of a batch", next_step=WRITE_AGAIN) from None
        if not intact:
            raise StoreError(
                f"{path}, line {number} was changed: its custom_id is not that of its body", next_step=WRITE_AGAIN
            )
        yield name, request


def _sort_in(text: str, asked: Mapping[str, Any], answers: dict[str, Answer], read: Read) -> None:
    try:
        line = json.loads(text)
        name, error = line["custom_id"], line.get("error")
        response = line.get("response") or {}
        status, body = response.get("status_code"), response.get("body")
    except (ValueError, KeyError, TypeError, AttributeError):
        read.damaged += 1
        return
    if name not in asked:
        read.unknown += 1
    elif error or status != 200:
        read.refused[_reason(error, status, body)] += 1
    elif name not in answers:
        try:
            reply, finish_reason = parse_completion(body if isinstance(body, str) else json.dumps(body))
        except NotAChatCompletion as problem:
            reply, finish_reason = Reply(unreadable=str(problem)), ""
        answers[name] = Answer(reply, finish_reason, 0.0, 1)


def _reason(error: Any, status: Any, body: Any) -> str:
    """Why a line was refused, in few words."""
    inner = body.get("error") if isinstance(body, dict) else body
    found = [part.get("message") or part.get("code") if isinstance(part, dict) else part for part in (inner, error)]
    told = next((str(text) for text in found if text), "no reason given")
    return one_line(f"answered {status}: {told}" if status else told, 160)


def _explain(read: Read, unreadable: int, requests: Path) -> None:
    """Raise where the results hold nothing that could be an answer; then nothing is kept of them."""
    if read.refused:
        reason, count = read.refused.most_common(1)[0]
        raise TeacherError(
            f"the endpoint refused every line ({count} x {reason})",
            "answers",
            "check teacher.model and the account, and hand in the same file again",
        )
    if unreadable:
        raise TeacherError(f"none of {unreadable} results is a chat completion", f"answers of {URL}")
    if read.unknown:
        raise TeacherError(f"none of {read.unknown} results belongs to {requests}", "the results of that file")
    raise TeacherError("the files of results hold no result", "the output or error file of a batch")


def _lines(paths: Sequence[Path]) -> Iterator[str]:
    for path in paths:
        yield from _text_lines(path)


def _text_lines(path: Path) -> Iterator[str]:
    try:
        with path.open(encoding="utf-8", errors="replace", newline="\n") as handle:
            yield from (line for line in handle if line.strip())
    except OSError as error:
        raise StoreError(f"{path} cannot be read ({error.strerror})", "a file of JSON lines") from None
