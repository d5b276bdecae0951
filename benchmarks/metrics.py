"""Seconds for all figures of one rung with 1,000 resamples of users on a million rows of 100,000 users.

    python benchmarks/metrics.py [--rows 1000000] [--users 100000] [--resamples 1000]

All that `thinkrec ladder` computes for a rung: AUC, UAUC, ranking figures at 1, 3, 5 and 10, log-loss, Brier, calibration,
accuracy, warm, cold and by history length, and intervals. Two rungs, so that paired differences are part of it.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time

import numpy as np

from thinkrec_core.evaluation.ladder import evaluate_ladder


def main() -> None:
    """Measure and print one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--users", type=int, default=100_000)
    parser.add_argument("--resamples", type=int, default=1000)
    given = parser.parse_args()
    draw = np.random.default_rng(7)
    activity = draw.lognormal(0, 1.5, given.users)
    users = np.r_[
        np.arange(given.users), draw.choice(given.users, given.rows - given.users, p=activity / activity.sum())
    ]
    labels = (draw.random(given.rows) < 0.5).astype(np.int64)
    noise = draw.normal(size=(2, given.rows))
    scores = {"floor": 0.3 * labels + noise[0], "other": np.round(0.4 * labels + noise[1], 2)}
    start = time.monotonic()
    found = evaluate_ladder(
        users,
        labels,
        draw.random(given.rows) < 0.5,
        scores,
        "floor",
        given.resamples,
        draw,
        history=draw.integers(0, 80, given.rows),
    )
    seconds = round(time.monotonic() - start, 2)
    print(f"{found['rows']:,} rows, {found['users']:,} users, {len(scores)} rungs", file=sys.stderr)
    print(
        json.dumps(
            {
                "seconds": seconds,
                "rungs": len(scores),
                "rows": found["rows"],
                "users": found["users"],
                "resamples": given.resamples,
                "peak_rss_gb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2),
            }
        )
    )


if __name__ == "__main__":
    main()
