"""A synthetic data set as a folder that `thinkrec data prepare` and `data.source` read, with the planted truth beside it.

interactions.parquet, items.parquet      canonical columns
truth/users.parquet, truth/items.parquet the planted values by user_id and item_id
truth/parameters.json                    the specification
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from storage.new_folder import new_folder
from thinkrec_core.synthetic import SyntheticSpec, Truth, blocks_of, item_texts, plant

INTERACTIONS = pa.schema(
    [("user_id", pa.int64()), ("item_id", pa.int64()), ("rating", pa.int8()), ("timestamp", pa.int64())]
)


def write_synthetic(spec: SyntheticSpec, out: Path, progress: Callable[[int], None] = lambda rows: None) -> int:
    """Write the data set of `spec` as the new folder `out`; returns its rows.

    The folder appears whole or not at all. Memory holds one block of users at a time.

    Args:
        progress: told the rows written so far.

    Raises:
        DataError: `out` exists with something in it, or cannot be written.
    """
    with new_folder(out) as building:
        (building / "truth").mkdir()
        truth, rows = plant(spec), 0
        with pq.ParquetWriter(building / "interactions.parquet", INTERACTIONS, compression="zstd") as writer:
            for block in blocks_of(truth):
                columns = [block.user_id, block.item_id, block.rating, block.timestamp]
                writer.write_table(pa.table(columns, schema=INTERACTIONS))
                rows += len(block.user_id)
                progress(rows)
        _write_texts(truth, building)
    return rows


def _write_texts(truth: Truth, folder: Path) -> None:
    titles, genres = item_texts(truth)
    users, items = np.arange(1, truth.spec.users + 1), np.arange(1, truth.spec.items + 1)
    tables = {
        "items.parquet": {"item_id": items, "title": titles, "genres": genres},
        "truth/items.parquet": {
            "item_id": items,
            "cluster": truth.item_cluster,
            "quality": truth.quality,
            "popularity": truth.popularity,
        },
        "truth/users.parquet": {
            "user_id": users,
            "cluster": truth.user_cluster,
            "later_cluster": truth.later_cluster,
            "moved_at": truth.moved_at,
            "generosity": truth.generosity,
        },
    }
    for name, columns in tables.items():
        pq.write_table(pa.table(columns), folder / name, compression="zstd")
    text = json.dumps(dataclasses.asdict(truth.spec), indent=1, sort_keys=True) + "\n"
    (folder / "truth" / "parameters.json").write_text(text)
