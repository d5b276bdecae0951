"""Twice as many requests as the server can answer, good and bad ones, and a kill in the middle of more.

    python benchmarks/serving_load.py [--bundle FOLDER|RUN] [--seconds 600]

`thinkrec serve` runs as a process of its own. Its capacity is measured with eight clients that wait for each answer; then
requests come at twice that rate whether or not it keeps up: rows to score, lists, and one in five that is wrong. Excess must
be answered 429 or 503, what is wrong 4xx, everything else 200. memory_growth: resident memory at the end over that after the
first tenth, minus 1. At last the server is killed with -9 under load and started again: it must verify and serve the same
bundle with the same scores.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from typing import Any

import httpx
import psutil

from flows.cli_bundle import locate_bundle
from storage.bundle import open_bundle

WRONG: list[tuple[bytes, str]] = [
    (b"{", "/score"),
    (b"[" * 5000, "/score"),
    (b'{"rows": [{"user_id": "nobody at all", "item_id": "1"}]}', "/score"),
    (b'{"user_id": "\\ud800"}', "/recommend"),
    (b" " * 1_000_000, "/recommend"),
    (b'{"liked": []}', "/explain"),
]
EXPECTED = {200, 429, 503}


def main() -> None:
    """Load, kill, and print one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bundle")
    parser.add_argument("--seconds", type=float, default=600.0)
    given = parser.parse_args()
    folder = locate_bundle(given.bundle)
    print(json.dumps(asyncio.run(measured(str(folder), given.seconds))))


async def measured(folder: str, seconds: float) -> dict[str, Any]:
    """All figures."""
    process, url = await asyncio.to_thread(start, folder)
    try:
        async with client(url) as http:
            users = (await http.get("/users")).json()["names"]
            row = {"rows": [{"user_id": users[0], "item_id": first_item(folder)}]}
            score = (await http.post("/score", json=row)).json()
            capacity = await rate(http, users, row, min(20.0, seconds / 4))
            print(f"capacity {capacity:.1f} requests/s", file=sys.stderr)
            found, growth = await load(http, users, row, 2 * capacity, seconds, process.pid)
            alive = process.poll() is None
            storm = asyncio.create_task(load(http, users, row, 2 * capacity, 4.0, None))
            await asyncio.sleep(2.0)
            os.kill(process.pid, signal.SIGKILL)
            await storm
        process.wait()
        open_bundle(locate_bundle(folder))  # raises if a file is not what it was
        process, url = await asyncio.to_thread(start, folder)
        async with client(url) as http:
            again = (await http.post("/score", json=row)).json()
    finally:
        process.send_signal(signal.SIGTERM)
        ended = process.wait(60)
    good = Counter({key[1]: n for key, n in found.items() if key[0] == "good"})
    bad = Counter({key[1]: n for key, n in found.items() if key[0] == "bad"})
    return {
        "seconds": seconds,
        "capacity_per_s": round(capacity, 1),
        "requests": sum(found.values()),
        "answered_200": good[200],
        "refused": good[429] + good[503],
        "wrong_4xx": sum(n for status, n in bad.items() if 400 <= status < 500 or status == 503),
        "unexpected": sum(n for status, n in good.items() if status and status not in EXPECTED)
        + sum(n for status, n in bad.items() if status and not (400 <= status < 500 or status == 503)),
        "unanswered": good[0] + bad[0],
        "memory_growth": round(growth, 4),
        "crashed": not alive,
        "same_after_kill": again == score,
        "exit_after_term": ended,
    }


def start(folder: str) -> tuple[subprocess.Popen[bytes], str]:
    """The server process and its URL."""
    command = [sys.executable, "-m", "flows.cli", "serve", "--bundle", folder, "--port", "0", "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert process.stdout is not None
    return process, json.loads(process.stdout.readline())["url"]


def client(url: str) -> httpx.AsyncClient:
    """Without a bound on connections: who asks does not wait for others."""
    return httpx.AsyncClient(base_url=url, timeout=90, limits=httpx.Limits(max_connections=None))


def first_item(folder: str) -> str:
    """The raw id of the first item of the bundle."""
    import pyarrow.parquet as pq

    return str(pq.read_table(f"{folder}/items.parquet").column("item_id")[0].as_py())


async def rate(http: httpx.AsyncClient, users: list[str], row: dict[str, Any], seconds: float) -> float:
    """Good requests per second that eight waiting clients get answered."""
    draw, until, done = random.Random(1), time.monotonic() + seconds, 0

    async def ask() -> None:
        nonlocal done
        while time.monotonic() < until:
            path, body = good(draw, users, row)
            answer = await http.post(path, json=body)
            done += answer.status_code == 200
            if answer.status_code != 200:  # whoever is refused and asks again at once measures refusals
                await asyncio.sleep(float(answer.headers.get("retry-after", "1")))

    started = time.monotonic()
    await asyncio.gather(*(ask() for _ in range(8)))
    return done / (time.monotonic() - started)


def good(draw: random.Random, users: list[str], row: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """A request that deserves an answer: mostly one row, sometimes a short list."""
    user = draw.choice(users)
    if draw.random() < 0.1:
        return "/recommend", {"user_id": user, "top_k": 3, "candidates": 8}
    return "/score", {"rows": [{"user_id": user, "item_id": row["rows"][0]["item_id"]}]}


async def load(
    http: httpx.AsyncClient, users: list[str], row: dict[str, Any], per_second: float, seconds: float, pid: int | None
) -> tuple[Counter[tuple[str, int]], float]:
    """Answers by kind and status, 0 for none; and the growth of the memory of `pid`."""
    draw, found, tasks = random.Random(2), Counter[tuple[str, int]](), set()

    async def ask(kind: str, path: str, body: bytes) -> None:
        try:
            answer = await http.post(path, content=body, headers={"content-type": "application/json"})
            found[kind, answer.status_code] += 1
        except httpx.HTTPError:
            found[kind, 0] += 1

    started, before = time.monotonic(), 0
    number = 0
    while (now := time.monotonic() - started) < seconds:
        while number < now * per_second:
            number += 1
            if draw.random() < 0.2:
                body, path = draw.choice(WRONG)
                task = asyncio.create_task(ask("bad", path, body))
            else:
                path, values = good(draw, users, row)
                task = asyncio.create_task(ask("good", path, json.dumps(values).encode()))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
        if pid is not None and not before and now > seconds / 10:
            before = psutil.Process(pid).memory_info().rss
        await asyncio.sleep(0.01)
    after = psutil.Process(pid).memory_info().rss if pid is not None else 0
    await asyncio.gather(*tasks)
    return found, after / before - 1 if before else 0.0


if __name__ == "__main__":
    main()
