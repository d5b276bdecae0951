"""Seconds and peak memory of clustering many users, each way of clustering in a process of its own.

    python benchmarks/clusters.py [--users 200000] [--size 64]

Vectors of planted clusters with unequal sizes, as fp32 as an encoder writes them; N is found by the silhouette among 2..10.
seconds and peak_rss_gb are those of mini-batch k-means; adjusted_rand compares its clusters with the planted ones.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from typing import Any

import numpy as np

PLANTED = 6


def main() -> None:
    """Measure and print one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--users", type=int, default=200_000)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--one", choices=("minibatch", "ward", "kmeans"), help="measure this one in this process")
    given = parser.parse_args()
    if given.one:
        print(json.dumps(measured(given.one, given.users, given.size)))
        return
    found = {}
    for name in ("minibatch", "ward", "kmeans"):
        command = [sys.executable, __file__, "--one", name, "--users", str(given.users), "--size", str(given.size)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        found[name] = json.loads(done.stdout.splitlines()[-1])
        print(name, found[name], file=sys.stderr)
    others = {name: found[name] for name in ("ward", "kmeans")}
    print(json.dumps({"users": given.users, **found["minibatch"], **others}))


def measured(clustering: str, users: int, size: int) -> dict[str, Any]:
    """Figures of one way of clustering."""
    from sklearn.metrics import adjusted_rand_score

    from thinkrec_core.config.experts import ExpertsConfig
    from thinkrec_core.experts.cluster import cluster_users
    from thinkrec_core.seeds import generator

    draw = np.random.default_rng(1)
    truth = draw.choice(PLANTED, users, p=np.arange(PLANTED, 0, -1) / sum(range(PLANTED + 1)))
    vectors = draw.normal(size=(users + 1, size)).astype(np.float32)
    vectors[1:] += draw.normal(size=(PLANTED, size)).astype(np.float32)[truth]
    config = ExpertsConfig(clustering=clustering, choose="silhouette")  # type: ignore[arg-type]
    start = time.perf_counter()
    found = cluster_users(vectors, np.ones(users + 1), config, generator(7, "clusters"))
    return {
        "seconds": round(time.perf_counter() - start, 2),
        "peak_rss_gb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2),
        "count": found.count,
        "adjusted_rand": round(float(adjusted_rand_score(truth, found.assignment[1:])), 4),
    }


if __name__ == "__main__":
    main()
