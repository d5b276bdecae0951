"""Preparations of tables made up in tests, read back."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from storage import prepare as module
from storage.readers.raw import RawData
from storage.schemas import INTERACTIONS, ITEMS, SAMPLES
from storage.tables import read_table
from thinkrec_core.config.data import DataConfig

Row = tuple[str, str, float, int, str]
"""user, item, label or rating, timestamp, split"""


@dataclass(frozen=True)
class PreparedData:
    """The files of a preparation."""

    interactions: pa.Table
    items: pa.Table
    samples: dict[str, pa.Table]
    statistics: dict[str, Any]


def raw(rows: Sequence[Row], with_split: bool = True, values: str = "label") -> RawData:
    """A source of `rows`, whose third column is called `values`."""
    user, item, value, timestamp, split = (list(column) for column in zip(*rows, strict=True))
    columns: dict[str, Any] = {
        "user_id": user,
        "item_id": item,
        "timestamp": pa.array(timestamp, pa.int64()),
        values: pa.array(value, pa.int8() if values == "label" else pa.float64()),
    }
    if with_split:
        columns["split"] = split
    items = sorted(set(item))
    known = pa.table({"item_id": items, "title": [f"Title {i}" for i in items], "keywords": [""] * len(items)})
    return RawData(pa.table(columns), known, "digest", "made-up")


def prepare(source: RawData, config: DataConfig, seed: int = 7) -> PreparedData:
    """The files of `source` prepared, after the checks that hold for all of them."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        statistics = module.prepare(source, config, seed, folder)
        samples = {s: read_table(folder / f"samples_{s}.parquet", SAMPLES) for s in ("train", "valid", "test")}
        interactions = read_table(folder / "interactions.parquet", INTERACTIONS)
        items = read_table(folder / "items.parquet", ITEMS)
        rows = sum(table.num_rows for table in samples.values())
        assert statistics["rows_read"] == rows + statistics["rejected"] + sum(statistics["filtered"].values())
        assert interactions.num_rows == rows
        return PreparedData(interactions, items, samples, statistics)


def histories(prepared: PreparedData) -> dict[tuple[str, str], list[tuple[str, int]]]:
    """Raw ids and labels of the history of each (user, item)."""
    ids = dict(zip(*(prepared.items.column(name).to_pylist() for name in ("item_idx", "item_id")), strict=True))
    return {
        (row["user_id"], row["item_id"]): [
            (ids[item], label) for item, label in zip(row["history_item_idx"], row["history_label"], strict=True)
        ]
        for table in prepared.samples.values()
        for row in table.to_pylist()
    }
