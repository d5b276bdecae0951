"""From raw interactions to labelled, split, indexed samples with histories; DuckDB in memory does the work."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa

from storage import prepare_sql as sql
from storage.readers.raw import ITEM, LABEL, RATING, SPLIT, SPLITS, USER, RawData
from thinkrec_core.config.data import DataConfig
from thinkrec_core.errors import DataError
from thinkrec_core.seeds import generator


@dataclass(frozen=True)
class PreparedData:
    """The tables of the data artifact, with the columns and types of `storage.schemas`."""

    interactions: pa.Table
    items: pa.Table
    samples: dict[str, pa.Table]
    """Per split, sorted by (timestamp, user_idx, item_idx)."""
    statistics: dict[str, Any]
    """source, label_source, rows_read, duplicates_dropped, users, items, items_without_interactions, per split: rows,
    positives, users, items, warm_share, first_timestamp, last_timestamp; and uauc_users_test."""


def prepare(raw: RawData, config: DataConfig, seed: int) -> PreparedData:
    """The prepared data of `raw`.

    Labels: rating >= `positive_threshold`, or the source's own. Of the rows of one (user, item) pair the last by
    (timestamp, file order) stays. Histories follow the method's data section: rows of the same user with strictly
    earlier timestamps, in all splits (a test row sees the user's earlier test rows), oldest first, the newest
    `max_history`. Ids are numbered after the split over all rows that remain.

    Differs: `ties="published"` also counts rows of the same timestamp that stand earlier in the file, which lets a row
    see labels of its own moment; the published tables were made so.

    Args:
        seed: the run's seed; only `max_users` draws from it.

    Raises:
        DataError: the source has no split column but the split is `given`, a split stays empty, or all train labels are
            equal.
    """
    if config.split == "given" and not raw.has_split:
        raise DataError(
            f"source {raw.name} has no split column",
            "one with train, valid and test",
            "set data.split to per_user or global",
        )
    eligible = "label = 1" if config.history == "liked" else "true"
    order = sql.EARLIER_IN_FILE if config.ties == "published" else sql.STRICTLY_EARLIER
    with _connection(raw, config) as database:
        _keep_users(database, config.max_users, seed)
        database.execute(sql.DEDUPLICATED)
        _divide(database, config)
        database.execute(sql.VOCABULARY.format(table="users", id=USER, idx="user_idx"))
        database.execute(sql.VOCABULARY.format(table="items", id=ITEM, idx="item_idx"))
        database.execute(sql.NUMBERED)
        statistics = _statistics(database, raw)
        _check_splits(statistics, config)
        database.execute(sql.HISTORY_ROWS.format(eligible=eligible))
        database.execute(sql.SAMPLES.format(eligible=eligible, order=order), {"max_history": config.max_history})
        return PreparedData(
            interactions=database.sql(sql.INTERACTIONS).to_arrow_table(),
            items=database.sql(sql.ITEMS).to_arrow_table(),
            samples={split: database.sql(sql.SAMPLES_OF, params={"split": split}).to_arrow_table() for split in SPLITS},
            statistics=statistics,
        )


@contextmanager
def _connection(raw: RawData, config: DataConfig) -> Iterator[duckdb.DuckDBPyConnection]:
    """A database in memory with `raw` (user_id, item_id, label, timestamp, split, file_row) and `raw_items`."""
    with duckdb.connect(":memory:") as database:
        rows = raw.interactions.append_column("file_row", pa.array(np.arange(raw.interactions.num_rows)))
        database.register("source_rows", rows)
        database.register("raw_items", raw.items)
        label = LABEL if raw.has_labels else f"CAST({RATING} >= $threshold AS TINYINT)"
        split = SPLIT if raw.has_split else "CAST(NULL AS VARCHAR)"
        database.execute(
            f"CREATE TABLE raw AS SELECT user_id, item_id, {label} AS label, timestamp, {split} AS split, file_row "
            "FROM source_rows",
            {} if raw.has_labels else {"threshold": config.positive_threshold},
        )
        yield database


def _keep_users(database: duckdb.DuckDBPyConnection, max_users: int | None, seed: int) -> None:
    """Delete the rows of all users but a seeded sample of `max_users`."""
    users = database.sql(sql.USERS_BY_ID).to_arrow_table().column(USER)
    if max_users is None or len(users) <= max_users:
        return
    chosen = np.sort(generator(seed, "data", "max_users").choice(len(users), max_users, replace=False))
    database.register("chosen", pa.table({USER: users.take(pa.array(chosen))}))
    database.execute("DELETE FROM raw WHERE user_id NOT IN (FROM chosen)")


def _divide(database: duckdb.DuckDBPyConnection, config: DataConfig) -> None:
    if config.split == "given":
        database.execute(sql.SPLIT_GIVEN)
        return
    query = sql.SPLIT_PER_USER if config.split == "per_user" else sql.SPLIT_GLOBAL
    database.execute(query, {"test_fraction": config.test_fraction, "valid_fraction": config.valid_fraction})


def _statistics(database: duckdb.DuckDBPyConnection, raw: RawData) -> dict[str, Any]:
    def value(query: str) -> int:
        row = database.execute(query).fetchone()
        return int(row[0]) if row else 0

    splits = {}
    for split, rows, positives, users, items, warm, first, last in database.execute(sql.PER_SPLIT).fetchall():
        splits[split] = {
            "rows": rows,
            "positives": positives,
            "users": users,
            "items": items,
            "warm_share": round(warm / rows, 6),
            "first_timestamp": first,
            "last_timestamp": last,
        }
    kept, items = value("SELECT count(*) FROM kept"), value("SELECT count(*) FROM items")
    return {
        "source": raw.name,
        "label_source": "label" if raw.has_labels else "rating",
        "rows_read": raw.interactions.num_rows,
        "duplicates_dropped": value("SELECT count(*) FROM raw") - kept,
        "users": value("SELECT count(*) FROM users"),
        "items": items,
        "items_without_interactions": raw.items.num_rows - items,
        "splits": {split: splits[split] for split in SPLITS if split in splits},
        "uauc_users_test": value(sql.UAUC_USERS),
    }


def _check_splits(statistics: dict[str, Any], config: DataConfig) -> None:
    splits = statistics["splits"]
    for split in SPLITS:
        if split not in splits:
            raise DataError(
                f"split {split} of {statistics['source']} has no rows under data.split {config.split}",
                "rows in train, valid and test",
                "use more rows or other fractions",
            )
    train = splits["train"]
    if train["positives"] in (0, train["rows"]):
        raise DataError(
            f"all {train['rows']} train labels of {statistics['source']} are {int(train['positives'] > 0)}",
            "likes and dislikes",
            f"check data.positive_threshold ({config.positive_threshold})",
        )
