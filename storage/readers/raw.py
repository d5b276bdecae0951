"""What every reader of a source gives: interactions and items under one schema, in the order of the file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from storage.readers.rejected import Rejected

USER, ITEM, RATING, LABEL, TIMESTAMP, SPLIT = "user_id", "item_id", "rating", "label", "timestamp", "split"
TITLE, KEYWORDS, DESCRIPTION = "title", "keywords", "description"
SNAPSHOT = "snapshot"
SPLITS = ("train", "valid", "test")
FILE_ROW = "file_row"


@dataclass(frozen=True)
class RawData:
    """The checked content of a source."""

    interactions: pa.Table | Callable[[], Iterator[pa.Table]]
    """user_id string, item_id string, timestamp int64 (seconds since 1970-01-01 UTC), rating float64 or label int8 (0
    or 1; a label wins where a source has both), split string where the source has one, and snapshot int64 where it
    consists of numbered ones; rows in file order. A function gives them in chunks, each time anew; bad rows go to
    `rejected` on the way."""

    items: pa.Table
    """item_id string (unique, every item of `interactions` is there), title string, keywords string ("" if unknown),
    and description string where it was asked for."""

    digest: str
    """sha256 of the source files."""

    name: str
    """The source as a person calls it: a registered name, or a folder's name."""

    rejected: Rejected = field(default_factory=Rejected)
    """Filled while the interactions are read."""

    names: tuple[str, ...] = ()
    """Columns of the interactions where they come in chunks."""

    items_left_out: int = 0
    """Rows of the item file that a lenient reader skipped: without id or title, repeated, or not readable."""

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns of the interactions."""
        return tuple(self.interactions.column_names) if isinstance(self.interactions, pa.Table) else self.names

    @property
    def has_labels(self) -> bool:
        """Whether the source brings labels instead of ratings."""
        return LABEL in self.columns

    @property
    def has_split(self) -> bool:
        """Whether the source brings its own split."""
        return SPLIT in self.columns

    @property
    def has_snapshots(self) -> bool:
        """Whether ids follow the snapshot in which they first occur."""
        return SNAPSHOT in self.columns

    def chunks(self) -> Iterator[pa.Table]:
        """The interactions, some at a time."""
        self.rejected.clear()
        if isinstance(self.interactions, pa.Table):
            yield self.interactions
        else:
            yield from self.interactions()

    def table(self) -> pa.Table:
        """All interactions at once.

        Raises:
            DataError: the first bad row.
        """
        whole = pa.concat_tables(list(self.chunks()))
        self.rejected.check(whole.num_rows + self.rejected.rows, 0)
        return whole

    def reader(self) -> pa.RecordBatchReader:
        """The interactions with `file_row` (int64, their place from 0) as a stream."""
        types = {USER: pa.string(), ITEM: pa.string(), RATING: pa.float64(), LABEL: pa.int8(), SPLIT: pa.string()}
        schema = pa.schema(
            [*(pa.field(name, types.get(name, pa.int64())) for name in self.columns), pa.field(FILE_ROW, pa.int64())]
        )

        def batches() -> Iterator[pa.RecordBatch]:
            start = 0
            for chunk in self.chunks():
                place = pa.array(np.arange(start, start + chunk.num_rows))
                start += chunk.num_rows
                yield from chunk.append_column(FILE_ROW, place).cast(schema).to_batches()

        return pa.RecordBatchReader.from_batches(schema, batches())
