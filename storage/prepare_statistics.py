"""What is counted about a preparation: statistics.json, out of the tables of `storage.prepare`."""

from __future__ import annotations

from typing import Any

import duckdb

from storage import prepare_sql as sql
from storage.readers.raw import SPLITS, RawData

LENGTHS = {"0": (0, 0), "1-2": (1, 2), "3-5": (3, 5), "6-10": (6, 10), "11-20": (11, 20), "21-50": (21, 50)}
LONGER = "51+"


def row_statistics(database: duckdb.DuckDBPyConnection, raw: RawData) -> dict[str, Any]:
    """Counts over the rows that stay, out of `numbered`, `users` and `items`.

    users and items are the ids 1..U and 1..I; of a source that consists of snapshots some of them have no row left, and
    users_with_rows, items_with_rows and density do not count those. burst_rows share their second with another row of
    the user. Per split: rows, positives, users, items, warm_share, first_timestamp, last_timestamp, both_classes and
    one_class (users).
    """
    splits: dict[str, dict[str, Any]] = {}
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
    database.execute(sql.USER_LABELS)
    for split, both_classes, one_class in database.execute(sql.CLASSES_PER_SPLIT).fetchall():
        splits[split] |= {"both_classes": both_classes, "one_class": one_class}
    users, items = (_row(database, f"SELECT count(*) FROM {table}")[0] for table in ("users", "items"))
    users_with_rows, items_with_rows = _row(database, sql.WITH_ROWS) if raw.has_snapshots else (users, items)
    rows = sum(values["rows"] for values in splits.values())
    burst_rows, longest_burst = _row(database, sql.BURSTS)
    return {
        "users": users,
        "items": items,
        "users_with_rows": users_with_rows,
        "items_with_rows": items_with_rows,
        "items_without_interactions": raw.items.num_rows - items,
        "items_left_out": raw.items_left_out,
        "items_with_keywords": _row(database, sql.WITH_KEYWORDS)[0],
        "density": round(rows / max(users_with_rows * items_with_rows, 1), 9),
        "splits": {split: splits[split] for split in SPLITS if split in splits},
        "one_class_users": _row(database, sql.ONE_CLASS)[0],
        "uauc_users_test": splits.get("test", {}).get("both_classes", 0),
        "burst_rows": burst_rows,
        "longest_burst": longest_burst,
    }


def history_statistics(database: duckdb.DuckDBPyConnection, max_history: int) -> dict[str, dict[str, Any]]:
    """Per split, of the stored histories: history_quartiles, empty_histories and history_lengths {range: rows}."""
    ranges = [f"length BETWEEN {low} AND {high}" for low, high in LENGTHS.values()]
    longest = max(high for _, high in LENGTHS.values())
    counts = ", ".join(f"count(*) FILTER ({text})" for text in [*ranges, f"length > {longest}"])
    found = database.execute(sql.HISTORY_LENGTHS.format(counts=counts), {"max_history": max_history}).fetchall()
    return {
        split: {
            "history_quartiles": quartiles,
            "empty_histories": numbers[0],
            "history_lengths": dict(zip([*LENGTHS, LONGER], numbers, strict=True)),
        }
        for split, quartiles, *numbers in found
    }


def _row(database: duckdb.DuckDBPyConnection, query: str) -> tuple[int, ...]:
    return tuple(int(value) for value in database.execute(query).fetchall()[0])
