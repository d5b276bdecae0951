"""The whole preparation against plain Python: for any small table, the SQL gives what a reader of the rules would."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import floor
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.prepared import Row, histories, prepare, raw
from thinkrec_core.config.data import DAY, DataConfig
from thinkrec_core.errors import DataError

HALF_DAY = DAY // 2


@dataclass(frozen=True)
class Seen:
    """A row of the source: its place in the file, and what became of it."""

    place: int
    user: str
    item: str
    label: int
    time: int
    split: str


# ---- the reference: what the documentation says, in the plainest Python ----


def reference(rows: Sequence[Row], config: DataConfig, values: str) -> tuple[list[Seen], dict[str, int]]:
    """The rows that stay with their splits, and how many went for each reason."""
    liked = [int(value if values == "label" else value >= config.positive_threshold) for _, _, value, _, _ in rows]
    seen = [Seen(n, u, i, y, t, s) for n, ((u, i, _, t, s), y) in enumerate(zip(rows, liked, strict=True))]
    by_time = sorted(seen, key=lambda row: (row.time, row.place), reverse=config.duplicates == "first")
    unique = sorted({(row.user, row.item): row for row in by_time}.values(), key=lambda row: row.place)
    first, until = window(unique, config)
    inside = [row for row in unique if first <= row.time < until]
    dense = inside
    while config.k_core > 1:
        users, items = Counter(row.user for row in dense), Counter(row.item for row in dense)
        before, least = dense, config.k_core
        dense = [row for row in dense if users[row.user] >= least and items[row.item] >= least]
        if len(dense) == len(before) or config.k_core_passes == "once":
            break
    gone = {"duplicates": len(seen) - len(unique), "outside_window": len(unique) - len(inside)}
    return divide(dense, config), {**gone, "rare": len(inside) - len(dense), "users_not_sampled": 0}


def window(rows: list[Seen], config: DataConfig) -> tuple[float, float]:
    if config.rolling is not None:
        days, end = config.rolling, max(row.time for row in rows) + 1
        return end - (days.train_days + days.valid_days + days.test_days) * DAY, end
    if config.windows is not None:
        return config.windows.first, config.windows.end
    return float("-inf"), float("inf")


def divide(rows: list[Seen], config: DataConfig) -> list[Seen]:
    if config.split == "given" or not rows:
        return rows
    test, both = config.test_fraction, config.test_fraction + config.valid_fraction

    def later(row: Seen, of: list[Seen]) -> float:
        return sum(other.time > row.time for other in of)

    def half_up(value: float) -> int:
        return floor(value + 0.5)

    if config.split == "per_user":

        def place(row: Seen) -> str:
            own = [other for other in rows if other.user == row.user]
            middle = later(row, own) + sum(other.time == row.time for other in own) / 2
            return named(middle < half_up(len(own) * test), middle < half_up(len(own) * both))

        return [replace(row, split=place(row)) for row in rows]

    def bound(share: float, of: list[Seen]) -> float:
        """The earliest moment with fewer later rows than the share has."""
        return min((row.time for row in of if later(row, of) < half_up(len(of) * share)), default=float("inf"))

    if config.rolling is not None:
        test_from: float = max(row.time for row in rows) + 1 - config.rolling.test_days * DAY
        valid_from: float = test_from - config.rolling.valid_days * DAY
    elif config.windows is not None:
        valid_from = config.windows.valid
        if config.windows.test is None and config.ties == "published":
            late = sorted((row for row in rows if row.time >= valid_from), key=lambda row: (row.time, row.place))
            first_half = {row.place for row in late[: len(late) // 2]}
            return [
                replace(row, split=named(row.place not in first_half, True) if row in late else "train") for row in rows
            ]
        half = bound(0.5, [row for row in rows if row.time >= valid_from])
        test_from = half if config.windows.test is None else config.windows.test
    else:
        valid_from, test_from = bound(both, rows), bound(test, rows)
    return [replace(row, split=named(row.time >= test_from, row.time >= valid_from)) for row in rows]


def named(is_test: bool, is_late: bool) -> str:
    return "test" if is_test else "valid" if is_late else "train"


def vocabulary(rows: list[Seen], of: Callable[[Seen], str]) -> dict[str, int]:
    """1.. by (first timestamp, raw id), ids as numbers where all of them are."""
    first = {name: min(row.time for row in rows if of(row) == name) for name in map(of, rows)}
    numeric = all(name.isdecimal() for name in first)
    order = sorted(first, key=lambda name: (first[name], int(name) if numeric else 0, name))
    return {name: index for index, name in enumerate(order, 1)}


def history(row: Seen, rows: list[Seen], config: DataConfig) -> list[tuple[str, int]]:
    """Items and labels before `row`, oldest first."""

    def is_earlier(other: Seen) -> bool:
        in_file = config.ties == "published" and (other.time, other.place) < (row.time, row.place)
        return other.time < row.time or in_file

    own = [other for other in rows if other.user == row.user and is_earlier(other)]
    own = [other for other in own if other.label == 1 or config.history == "labelled"]
    own.sort(key=lambda other: (other.time, other.place))
    return [(other.item, other.label) for other in own][-config.max_history :]


# ---- any table, any configuration ----

USERS, ITEMS = ["1", "2", "10", "u é"], ["1", "02", "2", "30", "x'y", "6", "70", "8"]
TABLES = st.sampled_from([USERS[:3], USERS]).flatmap(
    lambda users: st.lists(
        st.tuples(
            st.sampled_from(users),
            st.sampled_from(ITEMS[: 4 + len(users)]),
            st.sampled_from([0, 1]),
            st.integers(0, 15).map(lambda half_days: half_days * HALF_DAY),
            st.sampled_from(["train", "train", "valid", "test"]),
        ),
        min_size=12,
        max_size=48,
    )
)
SPLITS: list[dict[str, Any]] = [
    {"split": "given"},
    {"split": "per_user", "valid_fraction": 0.2, "test_fraction": 0.3},
    {"split": "per_user"},
    {"split": "global", "valid_fraction": 0.25, "test_fraction": 0.25},
    {"split": "global", "windows": ("1970-01-02", "1970-01-05", "1970-01-06", "1970-01-08")},
    {"split": "global", "windows": ("1970-01-01", "1970-01-05", None, "1970-01-09")},
    {"split": "rolling", "rolling": {"train_days": 4, "valid_days": 1, "test_days": 2}},
]
NAMES = ["given", "per_user_fifths", "per_user", "fractions", "windows", "halved_window", "rolling"]
CONFIGS = st.fixed_dictionaries(
    {
        "history": st.sampled_from(["liked", "labelled"]),
        "ties": st.sampled_from(["strict", "published"]),
        "max_history": st.integers(1, 6),
        "duplicates": st.sampled_from(["last", "first"]),
        "k_core": st.sampled_from([0, 2, 3]),
        "k_core_passes": st.sampled_from(["iterative", "once"]),
    }
)


def configured(split: dict[str, Any], other: dict[str, Any]) -> DataConfig:
    values = {**split, **other}
    if split.get("windows"):
        names = ("train_from", "valid_from", "test_from", "until")
        values["windows"] = dict(zip(names, split["windows"], strict=True))
    return DataConfig.model_validate(values)


def check(rows: list[Row], config: DataConfig, values: str) -> bool:
    """Compare; returns whether the table could be prepared."""
    if values == "rating":
        rows = [(user, item, [3.5, 4.0][int(liked)], time, split) for user, item, liked, time, split in rows]
    kept, gone = reference(rows, config, values)
    train = [row for row in kept if row.split == "train"]
    if {row.split for row in kept} != {"train", "valid", "test"} or len({row.label for row in train}) < 2:
        with pytest.raises(DataError, match=r"has no rows under data\.split|train labels of made-up are"):
            prepare(raw(rows, config.split == "given", values), config)
        return False

    prepared = prepare(raw(rows, config.split == "given", values), config)

    assert prepared.statistics["filtered"] == gone
    users, items = vocabulary(kept, lambda row: row.user), vocabulary(kept, lambda row: row.item)
    warm = ({row.user for row in train}, {row.item for row in train})
    expected = {
        (row.user, row.item): {
            "user_idx": users[row.user],
            "item_idx": items[row.item],
            "label": row.label,
            "timestamp": row.time,
            "split": row.split,
            "not_cold": row.user in warm[0] and row.item in warm[1],
        }
        for row in kept
    }
    found = [row for table in prepared.samples.values() for row in table.to_pylist()]
    assert {
        (row["user_id"], row["item_id"]): {name: row[name] for name in next(iter(expected.values()))} for row in found
    } == expected
    assert histories(prepared) == {(row.user, row.item): history(row, kept, config) for row in kept}
    assert (
        dict(zip(prepared.items["item_id"].to_pylist(), prepared.items["item_idx"].to_pylist(), strict=True)) == items
    )
    order = [(row["timestamp"], row["user_idx"], row["item_idx"]) for row in prepared.interactions.to_pylist()]
    assert order == sorted(order)
    if config.ties == "strict":
        assert_no_leak(found, kept, prepared.items)
    return True


def assert_no_leak(found: list[dict[str, Any]], kept: list[Seen], items: Any) -> None:
    """No history holds an item of an equal or later moment, whatever the reference says."""
    raw_id = dict(zip(items["item_idx"].to_pylist(), items["item_id"].to_pylist(), strict=True))
    times = {(row.user, row.item): row.time for row in kept}
    for row in found:
        for item in row["history_item_idx"]:
            assert times[row["user_id"], raw_id[item]] < row["timestamp"]


@pytest.mark.parametrize("split", SPLITS, ids=NAMES)
def test_any_small_table(split: dict[str, Any]) -> None:
    prepared = compare(split, examples=6)
    assert prepared, "no table of this split could be prepared: the comparison was empty"


@pytest.mark.slow
@pytest.mark.parametrize("split", SPLITS, ids=NAMES)
def test_many_small_tables(split: dict[str, Any]) -> None:
    assert compare(split, examples=100) > 15


def compare(split: dict[str, Any], examples: int) -> int:
    """Tables out of `examples` that could be prepared; all of them were compared."""
    prepared = 0

    @settings(max_examples=examples, deadline=None, derandomize=True, database=None)
    @given(TABLES, CONFIGS, st.sampled_from(["label", "rating"]))
    def compared(rows: list[Row], other: dict[str, Any], values: str) -> None:
        nonlocal prepared
        prepared += check(rows, configured(split, other), values)

    compared()
    return prepared
