"""What every reader of a source gives: interactions and items under one schema, in the order of the file."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

USER, ITEM, RATING, LABEL, TIMESTAMP, SPLIT = "user_id", "item_id", "rating", "label", "timestamp", "split"
TITLE, KEYWORDS = "title", "keywords"
SPLITS = ("train", "valid", "test")


@dataclass(frozen=True)
class RawData:
    """The checked content of a source."""

    interactions: pa.Table
    """user_id string, item_id string, timestamp int64 (seconds since 1970-01-01 UTC), rating float64 or label int8 (0
    or 1; a label wins where a source has both), and split string where the source has one; rows in file order."""

    items: pa.Table
    """item_id string (unique, every item of `interactions` is there), title string, keywords string ("" if unknown)."""

    digest: str
    """sha256 of the source files."""

    name: str
    """The source as a person calls it: a registered name, or a folder's name."""

    @property
    def has_labels(self) -> bool:
        """Whether the source brings labels instead of ratings."""
        return LABEL in self.interactions.column_names

    @property
    def has_split(self) -> bool:
        """Whether the source brings its own split."""
        return SPLIT in self.interactions.column_names
