"""What each way of using a bundle says about rows of the evaluation."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from starlette.testclient import TestClient

from flows.cli import main
from storage.bundle import MANIFEST, open_bundle
from storage.file_digests import file_digest
from storage.schemas import BUNDLE_SEEN, BUNDLE_USERS
from storage.tables import write_table
from tasks.mlflow_model import write_mlflow_model
from tasks.serving.app import create_app
from tasks.serving.engine import Engine
from tasks.serving.limits import Limits
from tasks.serving.metrics import Metrics

ROOT = Path(__file__).parents[2]
OTHERS = 3
"""Items that are ranked beside the row's."""


def evaluated(predictions: Path, data: Path) -> pd.DataFrame:
    """The rows of the evaluation with its score and the history that each of them had."""
    samples = pq.read_table(data / "samples_test.parquet").to_pandas()
    columns = ["user_id", "item_id", "user_idx", "item_idx", "history_item_idx", "history_label"]
    return pq.read_table(predictions).to_pandas().merge(samples[columns], on=["user_id", "item_id"])


def as_of(bundle: Path, rows: pd.DataFrame, out: Path) -> Path:
    """`bundle` in the new folder `out` as of the moment of `rows`, one per user: the users of the rows with their histories, who
    have seen everything but the row's item and a few others.
    """
    shutil.copytree(bundle, out)
    rows = rows.sort_values("user_idx")
    columns = {name: rows[name].tolist() for name in ("user_idx", "user_id")}
    columns |= {name: [list(map(int, own)) for own in rows[name]] for name in ("history_item_idx", "history_label")}
    write_table(out / "users.parquet", columns, BUNDLE_USERS)
    everything = np.arange(1, pq.read_metadata(out / "items.parquet").num_rows + 1)
    seen: dict[str, list[int]] = {"user_idx": [], "item_idx": []}
    for row in rows.itertuples():
        others = np.setdiff1d(everything, [row.item_idx, *row.history_item_idx])[:OTHERS]
        own = np.setdiff1d(everything, [row.item_idx, *others])
        seen["user_idx"] += [row.user_idx] * len(own)
        seen["item_idx"] += own.tolist()
    write_table(out / "seen.parquet", seen, BUNDLE_SEEN)
    facts = json.loads((out / MANIFEST).read_text())
    facts["files"] |= {name: file_digest(out / name) for name in ("users.parquet", "seen.parquet")}
    (out / MANIFEST).write_text(json.dumps(facts))
    return out


def told_by_lists(bundle: Path, rows: pd.DataFrame, out: Path) -> dict[str, list]:
    """Scores of the rows' items in lists of `bundle` (see `as_of`): those of batch, POST /recommend, and recommend for the first
    row, as a process of its own.
    """
    size = [*("--top-k", str(OTHERS + 1)), *("--candidates", str(OTHERS + 1)), *("--bundle", str(bundle))]
    assert main(["batch", "--out", str(out), *size]) == 0
    lists = pq.read_table(sorted(out.glob("part-*"))).to_pandas().set_index(["user_id", "item_id"])["score"]
    found: dict[str, list] = {"batch": [lists[row.user_id, row.item_id] for row in rows.itertuples()]}
    found["/recommend"] = []
    app = create_app(Engine(lambda: bundle, Limits(seconds=300), Metrics()))
    with TestClient(app, base_url="http://127.0.0.1") as client:
        for row in rows.itertuples():
            body = {"user_id": row.user_id, "top_k": OTHERS + 1, "candidates": OTHERS + 1}
            told = client.post("/recommend", json=body).json()
            found["/recommend"] += [one["score"] for one in told["recommendations"] if one["item_id"] == row.item_id]
    first = rows.iloc[0]
    command = [sys.executable, "-m", "flows.cli", "recommend", "--user", first["user_id"], *size, "--json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    listed = json.loads(done.stdout)["recommendations"]
    found["recommend"] = [one["score"] for one in listed if one["item_id"] == first["item_id"]]
    return found


def told_by_server(bundle: Path, rows: pd.DataFrame, data: Path) -> list[float]:
    """What POST /score says about these rows with their own histories, asked in two halves at once."""
    ids = ["", *pq.read_table(data / "items.parquet").column("item_id").to_pylist()]
    asked = [
        {
            "user_id": row.user_id,
            "item_id": row.item_id,
            "history": [
                {"item_id": ids[item], "label": int(label)}
                for item, label in zip(row.history_item_idx, row.history_label, strict=True)
            ],
        }
        for row in rows.itertuples()
    ]
    app = create_app(Engine(lambda: bundle, Limits(seconds=300), Metrics()))
    half = len(asked) // 2
    with TestClient(app, base_url="http://127.0.0.1") as client, ThreadPoolExecutor(2) as pool:
        parts = (asked[:half], asked[half:])
        told = list(pool.map(lambda part: client.post("/score", json={"rows": part}).json()["scores"], parts))
    return [row["score"] for part in told for row in part]


def told_by_mlflow(bundle: Path, rows: pd.DataFrame, out: Path) -> list[float]:
    """What the bundle as an MLflow model says about these rows with their own histories."""
    write_mlflow_model(open_bundle(bundle), out)
    columns = ["user_id", "item_id", "history_item_idx", "history_label"]
    return mlflow.pyfunc.load_model(str(out)).predict(rows[columns])["score"].tolist()
