"""The Parquet files of the data artifact, written in batches; histories are slices of one flat array."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from storage import prepare_sql as sql
from storage.readers.raw import DESCRIPTION, SPLITS
from storage.schemas import DESCRIPTIONS, INTERACTIONS, ITEMS, SAMPLES
from storage.tables import write_table

BATCH = 200_000
"""Rows written at a time, cut at multiples of it: equal rows give equal bytes, however the engine batches them."""
HISTORY_ENCODING = {
    "history_item_idx.list.element": "BYTE_STREAM_SPLIT",
    "history_label.list.element": "DELTA_BINARY_PACKED",
}
"""Against dictionaries: two thirds of the time to write and to read, four fifths of the bytes. Arrow from 15, DuckDB from 1.2,
Polars and Spark from 4 read them."""
SLICE = 20_000
"""Rows whose histories are gathered at a time: short arrays stay in the cache and reuse the memory of the last ones."""
WAITING = 2
"""Batches that may wait for the encoder of one file, so that memory stays bounded."""


@dataclass(frozen=True)
class Histories:
    """All rows that may stand in a history, by user, oldest first (E rows of U users)."""

    items: npt.NDArray[np.int32]
    """(E,)"""
    labels: npt.NDArray[np.int8]
    """(E,)"""
    starts: npt.NDArray[np.int64]
    """(U+1,) where the rows of user_idx begin; index 0 is padding."""
    longest: int

    @classmethod
    def of(cls, items: np.ndarray, labels: np.ndarray, counts: np.ndarray, longest: int) -> Self:
        """From the rows in order and their number per user 1..U."""
        starts = np.concatenate([[0, 0], np.cumsum(counts)[:-1]]).astype(np.int64)
        return cls(items.astype(np.int32), labels.astype(np.int8), starts, longest)

    def lists(self, user_idx: np.ndarray, earlier: np.ndarray) -> tuple[pa.ListArray, pa.ListArray]:
        """Items and labels of the newest `longest` of the first `earlier` rows of each user; both of R lists."""
        length = np.minimum(earlier, self.longest)
        offsets = np.concatenate([[0], np.cumsum(length)])
        begin = self.starts[user_idx] + earlier - length - offsets[:-1]
        narrow = np.int32 if max(len(self.items), int(offsets[-1])) < 2**31 else np.int64  # half the memory traffic
        place = np.repeat(begin.astype(narrow), length)
        place += np.arange(offsets[-1], dtype=narrow)
        bounds = pa.array(offsets.astype(np.int32))
        found = []
        for name, values in (("history_item_idx", self.items), ("history_label", self.labels)):
            flat = pa.array(values[place])
            found.append(pa.ListArray.from_arrays(bounds, flat, type=SAMPLES.field(name).type))
        return found[0], found[1]


def write_prepared(database: duckdb.DuckDBPyConnection, histories: Histories, folder: Path) -> None:
    """Write the five tables out of `samples`, `users`, `items` and `raw_items`."""
    write_table(folder / "items.parquet", database.sql(sql.ITEMS).to_arrow_table(), ITEMS)
    if DESCRIPTION in database.sql("FROM raw_items").columns:
        write_table(folder / "descriptions.parquet", database.sql(sql.DESCRIPTIONS).to_arrow_table(), DESCRIPTIONS)
    names = {}
    for table, column, idx in (("users", "user_id", "user_idx"), ("items", "item_id", "item_idx")):
        found = database.sql(f"SELECT {column} FROM {table} ORDER BY {idx}").to_arrow_table()
        names[column] = pa.concat_arrays([pa.array([""]), *found.column(0).chunks])
    with ExitStack() as files:

        def opened(name: str, schema: pa.Schema) -> _Writer:
            words = [column for column in schema.names if not column.startswith("history_")]
            encoding = HISTORY_ENCODING if len(words) < len(schema) else None
            writer = pq.ParquetWriter(
                folder / f"{name}.parquet", schema, compression="zstd", use_dictionary=words, column_encoding=encoding
            )
            return files.enter_context(_Writer(files.enter_context(writer)))

        everything = opened("interactions", INTERACTIONS)
        of_split = {split: opened(f"samples_{split}", SAMPLES) for split in SPLITS}
        reader = database.sql(sql.ROWS_IN_ORDER).to_arrow_reader(BATCH)
        for batch in _even(reader):
            for raw_id, idx in (("user_id", "user_idx"), ("item_id", "item_idx")):
                batch = batch.append_column(raw_id, names[raw_id].take(batch.column(idx)))
            everything.write(batch.select(INTERACTIONS.names).cast(INTERACTIONS))
            for split, writer in of_split.items():
                part = batch.filter(pc.equal(batch.column("split"), split)).combine_chunks()
                if part.num_rows:
                    writer.write(_samples(part, histories))


class _Writer:
    """Encodes the tables of one file on a thread of its own, in their order: encoding lists is most of the work."""

    def __init__(self, file: pq.ParquetWriter) -> None:
        self._file = file
        self._thread = ThreadPoolExecutor(1)
        self._waiting: deque[Future[None]] = deque()

    def write(self, table: pa.Table) -> None:
        """Hand over `table`; waits where `WAITING` are not yet encoded. Raises what an earlier one raised."""
        while len(self._waiting) >= WAITING:
            self._waiting.popleft().result()
        self._waiting.append(self._thread.submit(self._file.write_table, table))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._thread.shutdown(cancel_futures=kind is not None)
        if kind is None:
            for done in self._waiting:
                done.result()


def _samples(part: pa.Table, histories: Histories) -> pa.Table:
    users, earlier = (part.column(name).to_numpy() for name in ("user_idx", "earlier"))
    starts = range(0, part.num_rows, SLICE)
    gathered = [histories.lists(users[start : start + SLICE], earlier[start : start + SLICE]) for start in starts]
    for name, chunks in zip(("history_item_idx", "history_label"), zip(*gathered, strict=True), strict=True):
        part = part.append_column(name, pa.chunked_array(chunks))
    return part.select(SAMPLES.names).cast(SAMPLES)


def _even(reader: pa.RecordBatchReader) -> Iterator[pa.Table]:
    """Tables of exactly `BATCH` rows, the last one shorter: the engine's own batches may vary."""
    held: list[pa.RecordBatch] = []
    rows = 0
    for batch in reader:
        held.append(batch)
        rows += batch.num_rows
        while rows >= BATCH:
            table = pa.Table.from_batches(held)
            yield table.slice(0, BATCH)
            held, rows = table.slice(BATCH).to_batches(), rows - BATCH
    if rows:
        yield pa.Table.from_batches(held)
