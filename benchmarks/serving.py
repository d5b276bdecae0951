"""What the shared beginning and batches over users save in the server.

    python benchmarks/serving.py [--bundle FOLDER|RUN] [--candidates 100] [--repeats 3] [--rounds 30]

The bundle of a run on SmolLM2-135M (by default the newest of the store; the smoke preset will do) gets eight experts drawn
at random, one for each of eight users: adapters cost the same whatever their weights are. ratio_prefix: seconds of scoring
the candidates of one user one by one over those behind one shared beginning. ratio_batch: eight users ask /score for one row
each at the same moment, over HTTP; seconds until all have their answer without batches (one after the other) over those with
them. p50_ms and p99_ms are the waiting times of single requests with batches; the same without batches is told on stderr.
Variants take turns.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import socket
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path

import httpx
import numpy as np
import uvicorn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.serving_bundle import with_experts
from flows.cli_bundle import locate_bundle
from storage.bundle import open_bundle
from tasks.recommender import Recommender
from tasks.serving.app import create_app
from tasks.serving.engine import Engine
from tasks.serving.limits import Limits
from tasks.serving.metrics import Metrics
from tasks.serving.worker import Worker

USERS = 8


def main() -> None:
    """Measure and print one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bundle")
    parser.add_argument("--candidates", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=30)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        bundle = with_experts(locate_bundle(given.bundle), Path(folder) / "bundle", USERS)
        ratio_prefix = prefix(Recommender(open_bundle(bundle)), given.candidates, given.repeats)
        together, alone = asyncio.run(batches(bundle, given.rounds))
    totals = [statistics.median(max(one) for one in rounds) for rounds in (alone, together)]
    waits = [np.concatenate(rounds) * 1000 for rounds in (alone, together)]
    print(
        f"without batches p50 {np.median(waits[0]):.0f} ms, p99 {np.percentile(waits[0], 99):.0f} ms", file=sys.stderr
    )
    found = {
        "ratio_prefix": round(ratio_prefix, 2),
        "ratio_batch": round(totals[0] / totals[1], 2),
        "p50_ms": round(float(np.median(waits[1])), 1),
        "p99_ms": round(float(np.percentile(waits[1], 99)), 1),
    }
    print(json.dumps(found))


def prefix(recommender: Recommender, candidates: int, repeats: int) -> float:
    """Seconds of scoring one by one over seconds behind a shared beginning, medians; the scores are the same."""
    reader = recommender.user(recommender.user_ids[0])
    items = np.arange(1, candidates + 1)
    seconds: tuple[list[float], list[float]] = ([], [])
    for _ in range(repeats):
        started = time.perf_counter()
        single = np.array(
            [recommender.score_rows([reader], items[row : row + 1]).final[0] for row in range(candidates)]
        )
        between = time.perf_counter()
        shared = recommender.score(reader, items).final
        seconds[0].append(between - started)
        seconds[1].append(time.perf_counter() - between)
        np.testing.assert_allclose(shared, single, atol=1e-4)
    print(
        f"one by one {statistics.median(seconds[0]):.2f} s, shared {statistics.median(seconds[1]):.2f} s",
        file=sys.stderr,
    )
    return statistics.median(seconds[0]) / statistics.median(seconds[1])


async def batches(bundle: Path, rounds: int) -> tuple[list[list[float]], list[list[float]]]:
    """Seconds of each request by round, with batches and without."""
    limits, metrics = Limits(seconds=120), Metrics()
    engine = Engine(lambda: bundle, limits, metrics)
    workers = {
        "together": engine.worker,
        "alone": Worker(engine.score_pairs, Limits(seconds=120, batch_rows=1), metrics),
    }
    found: dict[str, list[list[float]]] = {name: [] for name in workers}
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(uvicorn.Config(create_app(engine), log_level="warning"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        users = engine.recommender.user_ids[:USERS]
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/score"
        async with httpx.AsyncClient(timeout=120) as client:
            for number in range(rounds + 1):
                turn = list(workers.items())
                for name, worker in turn if number % 2 else turn[::-1]:
                    engine.worker = worker
                    item = engine.recommender.item_ids[1 + number]
                    asked = (timed(client, url, {"user_id": user, "item_id": item}) for user in users)
                    seconds = list(await asyncio.gather(*asked))
                    if number:  # the first round warms up
                        found[name].append(seconds)
        server.should_exit = True
        await asyncio.to_thread(thread.join)
    workers["together"].close(5)
    return found["together"], found["alone"]


async def timed(client: httpx.AsyncClient, url: str, row: dict[str, str]) -> float:
    """Seconds until the score of `row` is there."""
    started = time.perf_counter()
    (await client.post(url, json={"rows": [row]})).raise_for_status()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
