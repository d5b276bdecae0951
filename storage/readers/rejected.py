"""Rows that cannot be used: where they stand, why, and how many of them are too many."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from storage.schemas import REJECTED
from storage.tables import write_table
from thinkrec_core.errors import DataError

KEPT = 1_000_000
"""Rows written to rejected.parquet at most; all are counted."""


class Rejected:
    """Bad rows of one reading."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Forget all: the source is read anew."""
        self.rows = 0
        self.records: list[tuple[str, int, str]] = []
        self.reasons: Counter[str] = Counter()
        """Rows by what was expected of them."""
        self._first: tuple[str, str] | None = None

    def add(self, file: str, row: int, found: str, expected: str) -> None:
        """Reject data row `row` (from 1) of `file`."""
        self.rows += 1
        self.reasons[expected] += 1
        self._first = self._first or (f"{file}: {found} in data row {row}", expected)
        if len(self.records) < KEPT:
            self.records.append((file, row, f"{found}; expected {expected}"))

    def add_again(self, file: str, row: int, reason: str) -> None:
        """Reject a row with the `reason` that an earlier reading wrote down."""
        found, _, expected = reason.rpartition("; expected ")
        self.add(file, row, found, expected)

    def check(self, rows: int, most: float) -> None:
        """Stop if more than the share `most` of `rows` was rejected.

        Raises:
            DataError: the first bad row, and how many there are.
        """
        if self._first is None or self.rows <= most * rows:
            return
        found, expected = self._first
        counts = f"{self.rows} of {rows} rows cannot be used, more than data.max_rejected {most:g}"
        raise DataError(found, expected, f"correct or remove the row; {counts}")

    def write(self, path: Path) -> None:
        """Write rejected.parquet: file, row, reason."""
        columns = list(zip(*self.records, strict=True)) or [(), (), ()]
        write_table(path, dict(zip(("file", "row", "reason"), map(list, columns), strict=True)), REJECTED)


class Refusals:
    """The bad rows of one chunk, collected column by column; the first reason of a row counts."""

    def __init__(self, rows: int) -> None:
        self.bad = np.zeros(rows, bool)
        self._reasons: dict[int, tuple[str, str]] = {}

    def __call__(self, bad: pa.Array, values: pa.Array, name: str, file: str, expected: str) -> None:
        """Mark the rows where `bad` is true."""
        mask = pc.fill_null(bad, True).to_numpy(zero_copy_only=False)
        for row in np.flatnonzero(mask & ~self.bad):
            self._reasons[int(row)] = (f"{name} is {repr(values[int(row)].as_py())[:80]}", expected)
        self.bad |= mask

    def hand_over(self, rejected: Rejected, file: str, start: int) -> None:
        """Tell `rejected`; the chunk begins at data row `start` (from 0)."""
        for row in sorted(self._reasons):
            rejected.add(file, start + row + 1, *self._reasons[row])


def refuse_late(refuse: Refusals, timestamps: pa.Array, before: int, name: str, file: str) -> None:
    """Mark the rows whose time is not before the second `before`, the first one after data.not_after."""
    last = datetime.fromtimestamp(before - 1, UTC).date()
    refuse(pc.greater_equal(timestamps, before), timestamps, name, file, f"a time until {last} (data.not_after)")


def without_late(table: pa.Table, before: int | None, file: str, start: int, rejected: Rejected) -> pa.Table:
    """`table`, which begins at data row `start` (from 0) of `file`, without the rows that are not before `before`."""
    if before is None:
        return table
    refuse = Refusals(table.num_rows)
    refuse_late(refuse, table.column("timestamp").combine_chunks(), before, "timestamp", file)
    refuse.hand_over(rejected, file, start)
    return table.filter(pa.array(~refuse.bad)) if refuse.bad.any() else table
