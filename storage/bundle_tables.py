"""The tables of a bundle: who the users are, what they have rated, and their history as of the newest row."""

from __future__ import annotations

from pathlib import Path

import duckdb
import numpy as np
from safetensors.numpy import save_file

from storage.rec_data import SIGNALS, load_samples, load_signals
from storage.schemas import BUNDLE_SEEN, BUNDLE_USERS
from storage.tables import write_table
from thinkrec_core.config.root import ThinkRecConfig

NEWEST = """
WITH rows AS (SELECT * FROM read_parquet($files)),
     last AS (SELECT user_idx, max(timestamp) AS timestamp FROM rows GROUP BY user_idx)
SELECT CAST(user_idx AS INTEGER) AS user_idx, min(user_id) AS user_id,
       arg_max(history_item_idx, len(history_item_idx)) AS items,
       arg_max(history_label, len(history_item_idx)) AS labels,
       list(item_idx ORDER BY item_idx) AS newer_items, list(label ORDER BY item_idx) AS newer_labels
FROM rows JOIN last USING (user_idx, timestamp) GROUP BY user_idx ORDER BY user_idx
"""
"""The history of a user's last row, and the rows of that last moment, which stand in nobody's history yet."""


def write_users(data: Path, encoder: Path, config: ThinkRecConfig, folder: Path) -> None:
    """users.parquet, seen.parquet and signals.safetensors of the bundle in `folder`."""
    files = [str(data / f"samples_{split}.parquet") for split in ("train", "valid", "test")]
    liked, longest = config.data.history == "liked", config.data.max_history
    with duckdb.connect() as database:
        rows = database.execute(NEWEST, {"files": files}).fetchall()
        seen = database.execute(
            "SELECT DISTINCT user_idx, item_idx FROM read_parquet($files) ORDER BY user_idx, item_idx", {"files": files}
        ).fetchall()
    items, labels = [], []
    for _, _, old_items, old_labels, new_items, new_labels in rows:
        pairs = [*zip(old_items, old_labels, strict=True), *zip(new_items, new_labels, strict=True)]
        kept = [(item, label) for item, label in pairs if label == 1 or not liked][-longest:]
        items.append([item for item, _ in kept])
        labels.append([label for _, label in kept])
    columns = {
        "user_idx": [row[0] for row in rows],
        "user_id": [row[1] for row in rows],
        "history_item_idx": items,
        "history_label": labels,
    }
    write_table(folder / "users.parquet", columns, BUNDLE_USERS)
    write_table(
        folder / "seen.parquet",
        {"user_idx": [row[0] for row in seen], "item_idx": [row[1] for row in seen]},
        BUNDLE_SEEN,
    )
    train = load_samples(data, encoder, "train")
    signals = load_signals(encoder, train, config.llm.projector.inputs)
    save_file(
        {name: np.ascontiguousarray(value) for name, value in signals.statistics.items()}, folder / "encoder" / SIGNALS
    )
