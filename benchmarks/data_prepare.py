"""Seconds and peak memory of `thinkrec data prepare` at growing sizes, and beside it pandas the way published notebooks do it.

    python benchmarks/data_prepare.py [--millions 3 6 12 25] [--pandas-rows 1000000]

growth is the worst ratio of seconds per doubling of the rows. ratio_vs_pandas compares whole preparations of one file in
MovieLens-1M's format, from the text to the written splits with all liked items as history: ours against the published
steps (a Python parser, row-wise lambdas, a copy of the history and of its titles for each row, warm rows looked up in arrays,
pickles; ours keeps titles once per item). ratio_vs_vectorised_pandas is against the same in pandas
written with care (a C parser, no row-wise calls but for the histories, Parquet).
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
LONGEST, ALL = 50, 100_000
"""Items of a history: the default of a run, and more than any user has."""


def main() -> None:
    """Measure and print one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--millions", type=float, nargs="*", default=[3, 6, 12, 25])
    parser.add_argument("--pandas-rows", type=int, default=1_000_000)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        runs = {f"{millions:g}m": prepared(made(folder, int(millions * 1e6)), LONGEST) for millions in given.millions}
        text = as_movielens(made(folder, given.pandas_rows), folder / "ml-1m")
        ours = prepared(text, ALL, "data.history=liked")
        theirs = {
            way: timed([sys.executable, __file__, "--as-pandas", way, str(text)]) for way in ("published", "vectorised")
        }
    pairs = list(pairwise(zip(given.millions, runs.values(), strict=True)))
    doublings = [(b["seconds"] / a["seconds"]) ** (1 / math.log2(n / m)) for (m, a), (n, b) in pairs]
    last = list(runs.values())[-1] if runs else ours
    print(
        json.dumps(
            {
                "seconds": last["seconds"],
                "peak_rss_gb": last["peak_rss_gb"],
                "growth": round(max(doublings), 3) if doublings else None,
                "ratio_vs_pandas": round(theirs["published"]["seconds"] / ours["seconds"], 2),
                "ratio_vs_vectorised_pandas": round(theirs["vectorised"]["seconds"] / ours["seconds"], 2),
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


def as_movielens(source: Path, out: Path) -> Path:
    """The interactions of `source` as ratings.dat and movies.dat with numbers as ids."""
    import duckdb

    out.mkdir()
    with duckdb.connect() as database:
        for name, id_ in (("interactions", "user_id"), ("items", "item_id")):
            database.execute(
                f"CREATE TABLE {id_} AS SELECT {id_}, row_number() OVER (ORDER BY {id_}) AS number "
                f"FROM (SELECT DISTINCT {id_} FROM '{source / name}.parquet')"
            )
        rows = {
            "ratings": f"SELECT concat_ws('::', u.number, i.number, CAST(rating AS INTEGER), timestamp) "
            f"FROM '{source}/interactions.parquet' JOIN user_id u USING (user_id) JOIN item_id i USING (item_id)",
            "movies": f"SELECT concat_ws('::', i.number, title, 'Drama') FROM '{source}/items.parquet' "
            "JOIN item_id i USING (item_id) ORDER BY i.number",
        }
        for name, query in rows.items():
            lines = (line for (line,) in database.execute(query).fetchall())
            (out / f"{name}.dat").write_text("".join(f"{line}\n" for line in lines), encoding="latin-1")
    return out


def prepared(source: Path, longest: int, *fields: str) -> dict[str, Any]:
    """Our preparation of `source` with histories of at most `longest`; what it wrote is removed."""
    fields = ("data.split=global", f"data.max_history={longest}", *fields)
    settings = [word for field in fields for word in ("--set", field)]
    with tempfile.TemporaryDirectory(dir=source.parent) as out:
        return timed([*THINKREC, "prepare", str(source), *settings, "--out", out, "--json"])


def timed(command: list[str]) -> dict[str, Any]:
    """Wall seconds and peak resident memory of `command`."""
    start = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{' '.join(command)} failed")
    seconds = round(time.monotonic() - start, 2)
    cpu = round(usage.ru_utime + usage.ru_stime, 2)
    print(f"{seconds:8.1f} s, {cpu:.1f} s of CPU  {' '.join(command[2:5])}", file=sys.stderr)
    return {"seconds": seconds, "cpu_seconds": cpu, "peak_rss_gb": round(usage.ru_maxrss / 2**20, 2)}


def as_published(folder: Path) -> None:
    """Row-wise from the parser to the warm flags, as the notebooks of the field do it; three pickles."""
    import numpy as np
    import pandas as pd

    columns = ["uid", "iid", "rating", "timestamp"]
    ratings = pd.read_csv(folder / "ratings.dat", sep="::", engine="python", names=columns)
    titles = pd.read_csv(
        folder / "movies.dat", sep="::", engine="python", names=["iid", "title", "genres"], encoding="latin-1"
    )
    frame = ratings.merge(titles, on="iid")
    moments = pd.to_datetime(frame["timestamp"], unit="s")
    frame["month"] = moments.map(lambda moment: moment.year * 12 + moment.month)
    frame["label"] = frame["rating"].apply(lambda rating: 1 if rating >= 4 else 0)
    frame = frame.sort_values(["uid", "timestamp"])
    months = np.sort(frame["month"].unique())
    valid_from, test_from = months[int(len(months) * 0.8)], months[int(len(months) * 0.9)]
    of_users = frame.groupby("uid").agg(dict.fromkeys(("iid", "title", "label", "timestamp", "month"), list))
    rows: list[tuple[Any, ...]] = []
    for user in of_users.index:
        found = of_users.loc[user]
        liked: list[int] = []
        liked_titles: list[str] = []
        columns = (found.iid, found.title, found.label, found.timestamp, found.month)
        for item, title, label, moment, month in zip(*columns, strict=True):
            rows.append((user, item, title, label, moment, month, np.array(liked), list(liked_titles)))
            if label > 0:
                liked.append(item)
                liked_titles.append(title)
    names = ["uid", "iid", "title", "label", "timestamp", "month", "history", "history_titles"]
    samples = pd.DataFrame(rows, columns=names)
    users = {raw: number for number, raw in enumerate(samples["uid"].unique(), 1)}
    items = {raw: number for number, raw in enumerate(samples["iid"].unique(), 1)}
    samples["uid"], samples["iid"] = samples["uid"].map(users), samples["iid"].map(items)
    samples["history"] = samples["history"].apply(lambda history: [items[item] for item in history])
    train = samples[samples["month"] < valid_from].copy()
    known_users, known_items = train["uid"].unique(), train["iid"].unique()
    train["not_cold"] = 1
    valid = samples[(samples["month"] >= valid_from) & (samples["month"] < test_from)].copy()
    test = samples[samples["month"] >= test_from].copy()
    for part in (valid, test):
        part["not_cold"] = (
            part[["uid", "iid"]]
            .apply(lambda row: row.uid in known_users and row.iid in known_items, axis=1)
            .astype("int")
        )
    with tempfile.TemporaryDirectory() as out:
        for name, part in (("train", train), ("valid", valid), ("test", test)):
            part.to_pickle(Path(out) / f"{name}.pkl")


def as_vectorised(folder: Path) -> None:
    """The same with a C parser and whole columns wherever pandas has them; three Parquet files."""
    import pandas as pd

    frame = pd.read_csv(folder / "ratings.dat", sep=":", usecols=[0, 2, 4, 6], header=None)
    frame.columns = pd.Index(["user_id", "item_id", "rating", "timestamp"])
    frame["label"] = (frame["rating"] >= 4).astype(int)
    frame = frame.sort_values(["user_id", "timestamp"]).drop_duplicates(["user_id", "item_id"], keep="last")
    for name in ("user", "item"):
        order = frame.groupby(f"{name}_id")["timestamp"].min().sort_values(kind="stable").index
        frame[f"{name}_idx"] = frame[f"{name}_id"].map({raw: number for number, raw in enumerate(order, 1)})
    histories = []
    for _, group in frame.groupby("user_id", sort=False):
        liked: list[int] = []
        of_moment: list[int] = []
        now = None
        for item, label, moment in zip(*(group[name] for name in ("item_idx", "label", "timestamp")), strict=True):
            if moment != now:
                liked, of_moment, now = liked + of_moment, [], moment
            histories.append(liked)
            if label:
                of_moment.append(item)
    frame["history_item_idx"] = histories
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
        {"published": as_published, "vectorised": as_vectorised}[sys.argv[2]](Path(sys.argv[3]))
    else:
        main()
