"""The source `synthetic`: made-up interactions with a known answer, drawn as they are read; no terms apply to them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator

import pyarrow as pa

from storage.readers.raw import ITEM, KEYWORDS, RATING, TIMESTAMP, TITLE, USER, RawData
from storage.readers.rejected import Rejected, without_late
from thinkrec_core.config.synthetic import SyntheticConfig
from thinkrec_core.synthetic import SyntheticSpec, blocks_of, item_texts, plant

NAME = "synthetic"


def read(config: SyntheticConfig, before: int | None = None) -> RawData:
    """The data set of `config`, the same as `thinkrec data synth` writes; memory holds one block of users at a time.

    Args:
        before: rows from this second on are rejected.

    Raises:
        DataError: numbers of users, items and rows that do not fit together.
    """
    truth = plant(SyntheticSpec(**config.model_dump()))
    titles, genres = item_texts(truth)
    ids = pa.array(range(1, truth.spec.items + 1)).cast(pa.string())
    words = [text.replace("|", ", ") for text in genres]
    rejected = Rejected()

    def chunks() -> Iterator[pa.Table]:
        start = 0
        for block in blocks_of(truth):
            table = pa.table(
                {
                    USER: pa.array(block.user_id).cast(pa.string()),
                    ITEM: pa.array(block.item_id).cast(pa.string()),
                    TIMESTAMP: block.timestamp,
                    RATING: block.rating.astype(float),
                }
            )
            yield without_late(table, before, NAME, start, rejected)
            start += table.num_rows

    items = pa.table({ITEM: ids, TITLE: titles, KEYWORDS: words})
    return RawData(chunks, items, digest(config), NAME, rejected, (USER, ITEM, TIMESTAMP, RATING))


def digest(config: SyntheticConfig) -> str:
    """sha256 of what is drawn; how it is drawn is in the key of the stage, as code."""
    return hashlib.sha256(json.dumps(config.model_dump(), sort_keys=True).encode()).hexdigest()
