"""Seconds and peak memory of `thinkrec data prepare` at growing sizes, and beside it pandas the way published notebooks do it.

    python benchmarks/data_prepare.py [--millions 3 6 12 25] [--pandas-rows 1000000]

growth is the worst ratio of seconds per doubling of the rows; ratio_vs_pandas compares whole preparations of the same rows.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

THINKREC = [sys.executable, "-m", "flows.cli", "data"]
LARGEST = {"users": 200_000, "items": 60_000, "rows": 25_000_000}
LONGEST = 50


def main() -> None:
    """Measure and print one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--millions", type=float, nargs="+", default=[3, 6, 12, 25])
    parser.add_argument("--pandas-rows", type=int, default=1_000_000)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        runs = {f"{millions:g}m": prepared(folder, int(millions * 1e6)) for millions in given.millions}
        ours = prepared(folder, given.pandas_rows)
        theirs = timed([sys.executable, __file__, "--as-pandas", str(made(folder, given.pandas_rows))])
    pairs = list(pairwise(zip(given.millions, runs.values(), strict=True)))
    doublings = [(b["seconds"] / a["seconds"]) ** (1 / math.log2(n / m)) for (m, a), (n, b) in pairs]
    last = list(runs.values())[-1]
    print(
        json.dumps(
            {
                "seconds": last["seconds"],
                "peak_rss_gb": last["peak_rss_gb"],
                "growth": round(max(doublings), 3) if doublings else None,
                "ratio_vs_pandas": round(theirs["seconds"] / ours["seconds"], 2),
                "runs": runs,
                "pandas": theirs,
                "ours_beside_pandas": ours,
            }
        )
    )


def made(folder: Path, rows: int) -> Path:
    """A synthetic data set of `rows`, with users and items in proportion to the largest."""
    out = folder / f"made-{rows}"
    if not out.exists():
        share = rows / LARGEST["rows"]
        users, items = (max(int(LARGEST[name] * share), 100) for name in ("users", "items"))
        sizes = ["--users", str(users), "--items", str(max(items, 4 * rows // users)), "--rows", str(rows)]
        subprocess.run([*THINKREC, "synth", *sizes, "--out", str(out), "--json"], check=True, stdout=subprocess.DEVNULL)
    return out


def prepared(folder: Path, rows: int) -> dict[str, Any]:
    """Our preparation of `rows`; what it wrote is removed."""
    source = made(folder, rows)
    with tempfile.TemporaryDirectory(dir=folder) as out:
        return timed([*THINKREC, "prepare", str(source), "--set", "data.split=global", "--out", out, "--json"])


def timed(command: list[str]) -> dict[str, Any]:
    """Wall seconds and peak resident memory of `command`."""
    start = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{' '.join(command)} failed")
    seconds = round(time.monotonic() - start, 2)
    print(f"{seconds:8.1f} s  {' '.join(command[2:5])}", file=sys.stderr)
    return {"seconds": seconds, "peak_rss_gb": round(usage.ru_maxrss / 2**20, 2)}


def as_pandas(folder: Path) -> None:
    """Sort, number, split by quantiles of time, and build histories row by row in Python lists; write Parquet."""
    import pandas as pd

    frame = pd.read_parquet(folder / "interactions.parquet").merge(
        pd.read_parquet(folder / "items.parquet"), on="item_id"
    )
    frame["label"] = (frame["rating"] >= 4).astype(int)
    frame = frame.sort_values(["user_id", "timestamp"]).drop_duplicates(["user_id", "item_id"], keep="last")
    for name in ("user", "item"):
        order = frame.groupby(f"{name}_id")["timestamp"].min().sort_values(kind="stable").index
        frame[f"{name}_idx"] = frame[f"{name}_id"].map({raw: number for number, raw in enumerate(order, 1)})
    items, labels = [], []
    for _, group in frame.groupby("user_id", sort=False):
        of_user, liked, times = (list(group[name]) for name in ("item_idx", "label", "timestamp"))
        for place, moment in enumerate(times):
            end = place
            while end and times[end - 1] == moment:
                end -= 1
            items.append(of_user[max(end - LONGEST, 0) : end])
            labels.append(liked[max(end - LONGEST, 0) : end])
    frame["history_item_idx"], frame["history_label"] = items, labels
    valid_from, test_from = frame["timestamp"].quantile([0.8, 0.9])
    frame["split"] = "train"
    frame.loc[frame["timestamp"] >= valid_from, "split"] = "valid"
    frame.loc[frame["timestamp"] >= test_from, "split"] = "test"
    train = frame[frame["split"] == "train"]
    frame["not_cold"] = frame["user_id"].isin(train["user_id"]) & frame["item_id"].isin(train["item_id"])
    with tempfile.TemporaryDirectory() as out:
        for split, part in frame.groupby("split"):
            part.sort_values(["timestamp", "user_idx", "item_idx"]).to_parquet(Path(out) / f"{split}.parquet")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--as-pandas"]:
        as_pandas(Path(sys.argv[2]))
    else:
        main()
