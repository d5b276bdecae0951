"""Rows of a file scored by a loaded recommender, in mixed batches of users, into one Parquet file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.csv as csv
import pyarrow.parquet as pq

from thinkrec_core.errors import DataError, one_line

if TYPE_CHECKING:
    from tasks.recommender import Reader, Recommender


def score_file(recommender: Recommender, source: Path, out: Path) -> int:
    """Write the rows of `source` with score, encoder_score and llm_score to `out`; returns how many.

    Raises:
        DataError: the file cannot be read, lacks a column, names an unknown user or item, or `out` cannot be written.
    """
    found = score_table(recommender, _read(source))
    partial = out.with_name(f".{out.name}.partial")
    try:
        out.absolute().parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(found, partial, compression="zstd")
        os.replace(partial, out)
    except OSError as error:
        raise DataError(f"--out {out} cannot be written ({error.strerror})", "a file that can be written") from None
    finally:
        partial.unlink(missing_ok=True)
    return int(found.num_rows)


def score_table(recommender: Recommender, table: pa.Table) -> pa.Table:
    """user_id and item_id of `table` with score, encoder_score and llm_score (float64), in its order.

    Args:
        table: user_id and item_id as strings; where it has history_item_idx and history_label, these are the histories.

    Raises:
        DataError: an unknown user or item.
    """
    from tasks.recommender import Reader

    users, items = table.column("user_id").to_pylist(), table.column("item_id").to_pylist()
    targets = np.array([recommender.item(item) for item in items], np.int64)
    readers: list[Reader] = [recommender.user(user) for user in users]
    if {"history_item_idx", "history_label"} <= set(table.column_names):
        own = zip(
            readers,
            table.column("history_item_idx").to_pylist(),
            table.column("history_label").to_pylist(),
            strict=True,
        )
        readers = [Reader(known.user_idx, tuple(past), tuple(labels), known.name) for known, past, labels in own]
    scored = recommender.score_rows(readers, targets)
    found = table.select(["user_id", "item_id"])
    for name, values in (("score", scored.final), ("encoder_score", scored.encoder), ("llm_score", scored.llm)):
        found = found.append_column(name, pa.array(values))
    return found


def _read(source: Path) -> pa.Table:
    try:
        if source.suffix == ".parquet":
            table = pq.read_table(source)
        else:
            types = {"user_id": pa.string(), "item_id": pa.string()}
            table = csv.read_csv(source, convert_options=csv.ConvertOptions(column_types=types))
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{source} cannot be read ({one_line(str(error), 120)})", "Parquet or CSV") from None
    for name in ("user_id", "item_id"):
        if table.column_names.count(name) != 1:
            raise DataError(f"{source} has columns {', '.join(table.column_names)[:200]}", f"one column {name}")
        place = table.column_names.index(name)
        table = table.set_column(place, name, table.column(name).cast(pa.string()))
    if not table.num_rows:
        raise DataError(f"{source} has no rows", "one or more")
    return table
