"""Reflections keep a slow teacher busy, and answers that were paid for are there again at once.

    python benchmarks/reflections.py [--rows 2000] [--sequential 60] [--journal 10000]

A server process answers each request 200 ms after it came. The published script asks one at a time; `ratio` compares the
answers per second of the stage's own client with 64 in flight to one in flight. Every answer is on the disk before it counts, in
both. `cpu_cores` is the CPU time of the asking process per second of the 64-fold run. `reload_seconds` is the time to read a
journal of 10,000 answers of 600 words each and to find them all by their keys.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from storage.journal import Entry, Journal, request_key
from tasks.teacher.client import TeacherClient
from tasks.teacher.conversations import Asking, converse
from tasks.teacher.endpoint import remote_endpoint
from tests.fault_server import FaultServer, fault_server
from thinkrec_core.config.reflections import ReflectionsConfig, TeacherConfig
from thinkrec_core.reflection.dialogue import Dialogue, Rules
from thinkrec_core.reflection.prompts import Case
from thinkrec_core.seeds import generator

DELAY = 0.2
WORDS = 600


def main() -> None:
    """Measure the three and print them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--sequential", type=int, default=60)
    parser.add_argument("--journal", type=int, default=10_000)
    parser.add_argument("--concurrency", type=int, default=64)
    sizes = parser.parse_args()
    with fault_server() as server, tempfile.TemporaryDirectory() as folder:
        one, _ = rate(server, Path(folder) / "one.jsonl", sizes.sequential, 1)
        many, cores = rate(server, Path(folder) / "many.jsonl", sizes.rows, sizes.concurrency)
        seconds = reload(Path(folder) / "journal.jsonl", sizes.journal)
    print(f"{one:.2f} answers/s one at a time, {many:.1f} with {sizes.concurrency} in flight", file=sys.stderr)
    print(
        json.dumps({"ratio": round(many / one, 1), "cpu_cores": round(cores, 2), "reload_seconds": round(seconds, 2)})
    )


def rate(server: FaultServer, path: Path, rows: int, concurrency: int) -> tuple[float, float]:
    """Answers per second of `rows` dialogues of one round each, and CPU seconds per second, both of this process."""
    server.plan(delay=DELAY)
    teacher = TeacherConfig(base_url=server.url, model="m", concurrency=concurrency, requests_per_minute=1_000_000)
    asking = Asking(teacher, "m", seed=1)
    rules = Rules.of(teacher, ReflectionsConfig())
    history = tuple((f"Earlier item {number} (1999)", number % 2) for number in range(10))
    cases = [Case(number % 2, f"Item {number}", "Drama", history) for number in range(rows)]
    dialogues = [Dialogue.start(case, rules, generator(1, "hints", row)) for row, case in enumerate(cases)]

    async def ask() -> list[Dialogue]:
        async with TeacherClient(remote_endpoint(teacher, {}), teacher) as client:
            return await converse(
                dialogues, range(rows), client, asking, Journal(path), lambda call: None, lambda dialogue: None
            )

    start, busy = time.monotonic(), time.process_time()
    held = asyncio.run(ask())
    seconds, cpu = time.monotonic() - start, time.process_time() - busy
    if not all(dialogue.status == "accepted" for dialogue in held) or len(Journal(path)) != rows:
        sys.exit("a dialogue went wrong")
    account = server.account()
    if account["billed"] != rows or account["billed_twice"]:
        sys.exit(f"not every request was answered once: {account}")
    return rows / seconds, cpu / seconds


def reload(path: Path, count: int) -> float:
    """Seconds to read a journal of `count` answers and find each by its key."""
    requests = [
        {"model": "m", "round": 1, "messages": [{"role": "user", "content": f"{n} " + "word " * 300}]}
        for n in range(count)
    ]
    keys = [request_key(request) for request in requests]
    reply = {"content": "Yes.", "reasoning_content": "reason " * WORDS, "reasoning": "", "unreadable": ""}
    answer = {"reply": {**reply, "prompt_tokens": 400, "completion_tokens": 800}, "finish_reason": "stop"}
    entries = [
        Entry(key, {**answer, "seconds": 1.0, "attempts": 1}, asked) for key, asked in zip(keys, requests, strict=True)
    ]
    Journal(path).append_all(entries)
    start = time.monotonic()
    journal = Journal(path)
    if not all(journal.get(key) for key in keys):
        sys.exit("an answer was lost")
    return time.monotonic() - start


if __name__ == "__main__":
    main()
