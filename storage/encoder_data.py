"""Samples of the data artifact as the arrays that an encoder reads.

Apart from `storage.rec_data` on purpose: the key of the encoder stage holds the code that it imports, and a changed
prompt must not train the encoder anew.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from storage.schemas import ITEMS, SAMPLES
from storage.tables import ragged, read_table
from thinkrec_core.encoders.content import ItemContent, item_content
from thinkrec_core.encoders.examples import Examples, Sizes
from thinkrec_core.errors import StoreError


def read_examples(path: Path) -> Examples:
    """The samples table at `path` as arrays.

    Raises:
        StoreError: the table is missing or damaged.
    """
    names = ["user_idx", "item_idx", "label", "history_item_idx", "history_label"]
    table = read_table(path, SAMPLES, names)
    offsets, items = ragged(table.column("history_item_idx"))
    _, labels = ragged(table.column("history_label"))
    user_idx, item_idx, label = (table.column(name).to_numpy().astype(np.int64) for name in names[:3])
    return Examples(user_idx, item_idx, label, offsets, items, labels)


def read_sizes(folder: Path) -> Sizes:
    """Users and items of the data artifact in `folder`.

    Raises:
        StoreError: a file is missing or damaged.
    """
    path = folder / "statistics.json"
    try:
        users = int(json.loads(path.read_text())["users"])
    except (OSError, ValueError, KeyError) as error:
        raise StoreError(f"{path} cannot be read ({error})", "the statistics of the data stage", "run again") from None
    return Sizes(users, read_table(folder / "items.parquet", ITEMS, ["item_idx"]).num_rows)


def read_content(folder: Path) -> ItemContent:
    """Release years and genres of the items of the data artifact in `folder`.

    Raises:
        StoreError: the table is missing or damaged.
    """
    table = read_table(folder / "items.parquet", ITEMS, ["title", "keywords"])
    return item_content(table.column("title").to_pylist(), table.column("keywords").to_pylist())
