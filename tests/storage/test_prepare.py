"""Labels, splits, ids and histories: small cases by hand (tests/storage/test_prepare_reference.py has any case)."""

from __future__ import annotations

import os
from collections import Counter
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from storage import prepare as module
from storage.readers.raw import RawData
from storage.readers.registry import configured_source, read_source
from tests.prepared import Row, histories, prepare, raw
from thinkrec_core.config.data import DataConfig
from thinkrec_core.errors import DataError

ONE_USER: list[Row] = [
    ("u", "a", 1, 10, "train"),
    ("u", "b", 0, 20, "train"),
    ("u", "c", 1, 20, "train"),
    ("u", "d", 1, 30, "valid"),
    ("u", "e", 1, 40, "test"),
    ("u", "f", 0, 50, "test"),
]


def test_histories_hold_strictly_earlier_rows_of_all_splits() -> None:
    found = histories(prepare(raw(ONE_USER), DataConfig(split="given"), 7))
    assert found["u", "b"] == found["u", "c"] == [("a", 1)]
    assert found["u", "d"] == [("a", 1), ("b", 0), ("c", 1)]
    assert found["u", "f"] == [("a", 1), ("b", 0), ("c", 1), ("d", 1), ("e", 1)]


def test_liked_histories_published_ties_and_the_newest_items() -> None:
    liked = histories(prepare(raw(ONE_USER), DataConfig(split="given", history="liked"), 7))
    assert liked["u", "f"] == [("a", 1), ("c", 1), ("d", 1), ("e", 1)]
    published = histories(prepare(raw(ONE_USER), DataConfig(split="given", ties="published"), 7))
    assert published["u", "b"] == [("a", 1)]
    assert published["u", "c"] == [("a", 1), ("b", 0)]
    newest = histories(prepare(raw(ONE_USER), DataConfig(split="given", max_history=2), 7))
    assert newest["u", "f"] == [("d", 1), ("e", 1)]


def test_ids_follow_the_first_timestamp_then_the_number() -> None:
    rows: list[Row] = [
        ("10", "x", 1, 5, "train"),
        ("9", "y", 0, 5, "train"),
        ("2", "10", 1, 7, "valid"),
        ("2", "9", 0, 7, "test"),
    ]
    prepared = prepare(raw(rows), DataConfig(split="given"), 7)
    users = {row["user_id"]: row["user_idx"] for row in prepared.interactions.to_pylist()}
    assert users == {"9": 1, "10": 2, "2": 3}
    # Not every item id is a number, so all compare as text.
    assert prepared.items.column("item_id").to_pylist() == ["x", "y", "10", "9"]


def test_the_last_of_equal_pairs_stays_and_is_counted() -> None:
    rows = [*ONE_USER, ("u", "a", 0, 15, "train"), ("u", "b", 1, 20, "train")]
    prepared = prepare(raw(rows), DataConfig(split="given"), 7)
    assert prepared.statistics["filtered"]["duplicates"] == 2
    assert histories(prepared)["u", "d"] == [("a", 0), ("c", 1), ("b", 1)]


def test_a_rating_is_liked_from_the_threshold_on() -> None:
    source = raw(ONE_USER)
    ratings = pa.array([4.0, 3.9, 5.0, 1.0, 4.5, 2.0])
    columns = source.interactions.drop_columns(["label"]).append_column("rating", ratings)
    prepared = prepare(RawData(columns, source.items, "d", "n"), DataConfig(split="given"), 7)
    assert prepared.interactions.column("label").to_pylist() == [1, 0, 1, 0, 1, 0]


def test_not_cold_needs_user_and_item_in_train() -> None:
    rows: list[Row] = [
        ("u", "a", 1, 1, "train"),
        ("u", "b", 0, 2, "train"),
        ("u", "z", 1, 3, "valid"),
        ("v", "a", 1, 4, "test"),
        ("u", "y", 1, 5, "test"),
        ("w", "b", 0, 6, "test"),
    ]
    prepared = prepare(raw([*rows, ("u", "c", 1, 2, "train"), ("u", "d", 1, 9, "test")]), DataConfig(split="given"), 7)
    warm = {(r["user_id"], r["item_id"]): r["not_cold"] for t in prepared.samples.values() for r in t.to_pylist()}
    assert {pair for pair, is_warm in warm.items() if is_warm} == {("u", "a"), ("u", "b"), ("u", "c")}
    assert prepared.statistics["splits"]["test"]["warm_share"] == 0


def test_per_user_takes_the_last_rows_and_divides_no_moment() -> None:
    rows: list[Row] = [("u", f"i{t}", t % 2, t, "") for t in range(20)]
    rows += [("v", f"i{t}", t % 2, t if t < 16 else 100, "") for t in range(20)]  # the last four in one moment
    prepared = prepare(raw(rows, with_split=False), DataConfig(), 7)
    split = {(r["user_id"], r["item_id"]): r["split"] for r in prepared.interactions.to_pylist()}
    assert [split["u", f"i{t}"] for t in range(20)] == ["train"] * 16 + ["valid"] * 2 + ["test"] * 2
    # The moment's middle lies on the border of valid and test (two rows from the end): it counts as valid.
    assert [split["v", f"i{t}"] for t in range(20)] == ["train"] * 16 + ["valid"] * 4


def test_global_puts_all_rows_of_a_second_on_one_side() -> None:
    rows: list[Row] = [(f"u{t % 3}", f"i{t}", t % 2, min(t, 17), "") for t in range(20)]
    prepared = prepare(raw(rows, with_split=False), DataConfig(split="global", valid_fraction=0.2), 7)
    split = {r["item_id"]: r["split"] for r in prepared.interactions.to_pylist()}
    assert [split[f"i{t}"] for t in range(20)] == ["train"] * 14 + ["valid"] * 3 + ["test"] * 3
    # One second holds the beginnings of both shares.
    late = raw([*rows[:16], *[(u, i, y, 16, s) for u, i, y, _, s in rows[16:]]], with_split=False)
    with pytest.raises(DataError, match=r"split valid of made-up has no rows under data\.split global"):
        prepare(late, DataConfig(split="global"), 7)


def test_a_seeded_sample_of_users() -> None:
    rows: list[Row] = [(f"u{u}", f"i{t}", t % 2, t, "") for u in range(40) for t in range(20)]
    config = DataConfig(max_users=10)
    kept = {
        seed: set(prepare(raw(rows, with_split=False), config, seed).interactions.column("user_id").to_pylist())
        for seed in (1, 2)
    }
    assert [len(users) for users in kept.values()] == [10, 10]
    assert kept[1] != kept[2]
    again = prepare(raw(rows[::-1], with_split=False), config, 1)
    assert set(again.interactions.column("user_id").to_pylist()) == kept[1]
    assert again.statistics["users"] == 10


def test_what_cannot_be_prepared_is_named() -> None:
    with pytest.raises(DataError, match=r"made-up has no split column.*per_user or global"):
        prepare(raw(ONE_USER, with_split=False), DataConfig(split="given"), 7)
    with pytest.raises(DataError, match="split valid of made-up has no rows"):
        prepare(raw(ONE_USER, with_split=False), DataConfig(valid_fraction=0.01), 7)
    with pytest.raises(DataError, match=r"all 3 train labels of made-up are 1.*positive_threshold"):
        prepare(raw([(u, i, 1, t, s) for u, i, _, t, s in ONE_USER]), DataConfig(split="given"), 7)


def test_k_core_once_and_until_nothing_changes() -> None:
    # Item e has one row; without it user w is left with one, and then item b with one.
    pairs = ["ua", "va", "xa", "ud", "vd", "xd", "wb", "we", "ub", "yc"]
    rows: list[Row] = [(p[0], p[1], n % 2, n, "") for n, p in enumerate(pairs)]

    for passes in ("once", "iterative"):
        data = raw(
            [(u, i, y, t, ("train", "train", "train", "valid", "test", "test")[t % 6]) for u, i, y, t, _ in rows]
        )
        config = DataConfig(split="given", k_core=2, k_core_passes=passes)  # type: ignore[arg-type]
        prepared = prepare(data, config, 7)
        kept, before = list(pairs), None
        while kept != before:
            before = kept
            users, items = Counter(p[0] for p in kept), Counter(p[1] for p in kept)
            kept = [p for p in kept if users[p[0]] >= 2 and items[p[1]] >= 2]
            if passes == "once":
                break
        found = {r["user_id"] + r["item_id"] for r in prepared.interactions.to_pylist()}
        assert found == set(kept)
        assert prepared.statistics["filtered"]["rare"] == len(pairs) - len(kept)


def test_windows_by_date_and_rolling_days() -> None:
    day = 86_400
    rows: list[Row] = [(f"u{d % 3}", f"i{d}", (d // 3) % 2, d * day, "") for d in range(20)]
    dates = {"train_from": "1970-01-03", "valid_from": "1970-01-10", "test_from": "1970-01-15", "until": "1970-01-18"}
    config = DataConfig.model_validate({"split": "global", "windows": dates})
    prepared = prepare(raw(rows, with_split=False), config, 7)
    by_split = {s: sorted(t.column("timestamp").to_numpy() // day) for s, t in prepared.samples.items()}
    assert by_split == {"train": list(range(2, 9)), "valid": list(range(9, 14)), "test": list(range(14, 17))}
    assert prepared.statistics["filtered"]["outside_window"] == 5
    assert all(i not in {"i0", "i1"} for history in histories(prepared).values() for i, _ in history)

    halved = DataConfig.model_validate({"split": "global", "windows": {**dates, "test_from": None}})
    sizes = {s: t.num_rows for s, t in prepare(raw(rows, with_split=False), halved, 7).samples.items()}
    assert sizes == {"train": 7, "valid": 4, "test": 4}

    days = {"train_days": 6, "valid_days": 2, "test_days": 3}
    rolling = DataConfig.model_validate({"split": "rolling", "rolling": days})
    found = prepare(raw(rows, with_split=False), rolling, 7).samples
    by_split = {s: sorted(t.column("timestamp").to_numpy() // day) for s, t in found.items()}
    assert by_split == {"train": list(range(9, 15)), "valid": [15, 16], "test": [17, 18, 19]}


def test_duplicates_first_and_error() -> None:
    rows = [*ONE_USER, ("u", "a", 0, 15, "train")]
    first = prepare(raw(rows), DataConfig(split="given", duplicates="first"), 7)
    assert histories(first)["u", "d"][0] == ("a", 1)
    with pytest.raises(DataError, match="1 rows of made-up repeat a pair"):
        prepare(raw(rows), DataConfig(split="given", duplicates="error"), 7)


def test_rows_of_the_future_stop_or_are_rejected_and_no_result_follows_the_clock(tmp_path: Path) -> None:
    rows = [f"u{u},i{t},{1 + (u + t) % 5},{1000 * u + t}" for u in range(8) for t in range(20)]
    rows += ["u0,i1,5,4102444799", "u0,i2,5,4102444800"]  # the last second of 2099-12-31, and the next
    (tmp_path / "interactions.csv").write_text("user_id,item_id,rating,timestamp\n" + "\n".join(rows) + "\n")
    (tmp_path / "items.csv").write_text("item_id,title\n" + "".join(f"i{t},T\n" for t in range(20)))

    def statistics(now: float, **fields: Any) -> dict[str, Any]:
        config = DataConfig(source=str(tmp_path), duplicates="first", **fields)
        out = tmp_path / f"out-{now}-{len(list(tmp_path.iterdir()))}"
        out.mkdir()
        return module.prepare(configured_source(config), config, 7, out, now=now)

    newest = 4_102_444_800
    with pytest.raises(DataError, match=r"timestamp 4102444800, after today \(2026-01-01\).*data\.not_after"):
        statistics(1_767_225_600.0)
    with pytest.raises(DataError, match="after today"):
        statistics(newest - 86_401.0)
    found = statistics(newest - 86_400.0)  # clocks and time zones differ by a day
    assert found == statistics(newest + 1e9)
    assert found["rejected"] == 0
    cut = statistics(0.0, not_after=date(2099, 12, 31))  # whatever the day is
    assert (cut["rejected"], cut["rows_read"]) == (1, 162)
    assert cut["rejected_reasons"] == {"a time until 2099-12-31 (data.not_after)": 1}
    assert statistics(5e9, not_after=date(2099, 12, 31)) == cut


def test_users_with_one_class_are_counted() -> None:
    rows = [*ONE_USER, *[("v", item, 1, time, split) for _, item, _, time, split in ONE_USER[:5]]]
    found = prepare(raw(rows), DataConfig(split="given"), 7).statistics
    assert found["one_class_users"] == 1  # v likes all
    counts = {split: (values["both_classes"], values["one_class"]) for split, values in found["splits"].items()}
    assert counts == {"train": (1, 1), "valid": (0, 2), "test": (1, 1)}
    assert found["uauc_users_test"] == 1
    assert (found["burst_rows"], found["longest_burst"]) == (4, 2)
    assert found["splits"]["test"]["history_lengths"] == {
        "0": 0, "1-2": 0, "3-5": 3, "6-10": 0, "11-20": 0, "21-50": 0, "51+": 0,
    }  # fmt: skip
    assert found["density"] == pytest.approx(11 / 12)


@pytest.mark.skipif("THINKREC_ML1M" not in os.environ, reason="THINKREC_ML1M names the published ML-1M split")
def test_the_published_movielens_1m_split() -> None:
    folder = os.environ["THINKREC_ML1M"]
    config = DataConfig(split="given", history="liked", ties="published", max_history=10_000)
    prepared = prepare(read_source(folder), config, 7)
    statistics = prepared.statistics
    assert (statistics["users"], statistics["items"], statistics["uauc_users_test"]) == (838, 3255, 224)
    rows = {split: values["rows"] for split, values in statistics["splits"].items()}
    assert rows == {"train": 33_891, "valid": 10_401, "test": 7_331}
    shares = [values["positives"] / values["rows"] for values in statistics["splits"].values()]
    assert shares == pytest.approx([0.5368, 0.5283, 0.5454], abs=5e-5)
    assert statistics["splits"]["test"]["warm_share"] == pytest.approx(0.566, abs=5e-4)
    published = pq.read_table(f"{folder}/interactions.parquet").to_pylist()
    found = histories(prepared)
    for row in published:
        expected = [str(item) for item in row["liked_history"]]
        assert [item for item, _ in found[str(row["user_id"]), str(row["item_id"])]] == expected
