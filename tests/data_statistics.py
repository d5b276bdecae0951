"""Statistics of a data stage, as `storage.prepare` returns them."""

from __future__ import annotations

from typing import Any


def statistics(**changes: Any) -> dict[str, Any]:
    """A made-up statistics.json; `changes` replace top-level values."""

    def split(rows: int, **values: Any) -> dict[str, Any]:
        return {
            "rows": rows,
            "positives": rows // 2,
            "users": 300,
            "items": 90,
            "warm_share": 0.75,
            "first_timestamp": 978_300_760,
            "last_timestamp": 980_000_000,
            "both_classes": 240,
            "one_class": 60,
            "history_quartiles": [2, 5, 10],
            "empty_histories": 7,
            "history_lengths": {"0": 7, "1-2": rows - 7, "3-5": 0, "6-10": 0, "11-20": 0, "21-50": 0, "51+": 0},
            **values,
        }

    return {
        "source": "shop",
        "label_source": "rating",
        "rows_read": 1212,
        "rejected": 2,
        "rejected_reasons": {"a number": 2},
        "filtered": {"users_not_sampled": 0, "duplicates": 10, "outside_window": 0, "rare": 0},
        "users": 400,
        "items": 120,
        "users_with_rows": 400,
        "items_with_rows": 120,
        "items_without_interactions": 3,
        "items_left_out": 0,
        "items_with_keywords": 100,
        "density": 0.025,
        "splits": {"train": split(1000), "valid": split(100), "test": split(100)},
        "one_class_users": 11,
        "uauc_users_test": 240,
        "burst_rows": 12,
        "longest_burst": 3,
        **changes,
    }
