"""Presets that rebuild published tables from raw files: the rules on small files in the raw formats, and ML-1M where it is."""

from __future__ import annotations

import gzip
import json
import os
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from flows.config import load_config
from storage.prepare_folder import prepare_folder
from storage.schemas import SAMPLES
from storage.tables import read_table
from thinkrec_core.config.data import DataConfig
from thinkrec_core.report.data_words import warnings

USERS, ITEMS = 24, 24


def prepared(preset: str, source: Path, out: Path, **fields: Any) -> dict[str, Any]:
    overrides = {f"data.{name}": value for name, value in fields.items()}
    config: DataConfig = load_config(preset, {"data.source": str(source), **overrides}).data
    return prepare_folder(config, 7, out)


def second(day: date) -> int:
    return int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp())


def reviews(first: date, last: date) -> list[tuple[str, str, int, int]]:
    """A rating of each user for each item, spread over the days; two more of a user and of an item with few ratings."""
    pairs = [(f"u{u}", f"i{i}") for u in range(USERS) for i in range(ITEMS)] + [("rare", "i0"), ("u0", "rare")]
    span = (last - first).days
    return [
        (user, item, 1 + (n * 7 + n // ITEMS) % 5, second(first + timedelta(days=(n * 37) % (span + 1))))
        for n, (user, item) in enumerate(pairs)
    ]


def expected(rows: list[tuple[str, str, int, int]], first: date, valid: date, until: date) -> dict[str, int]:
    inside = [row for row in rows if second(first) <= row[3] < second(until) and "rare" not in row[:2]]
    late = sum(row[3] >= second(valid) for row in inside)
    return {"train": len(inside) - late, "valid": late // 2, "test": late - late // 2}


def sizes(statistics: dict[str, Any]) -> dict[str, int]:
    return {split: values["rows"] for split, values in statistics["splits"].items()}


def test_amazon_book_takes_a_year_of_dense_users_and_halves_its_end(tmp_path: Path) -> None:
    rows = reviews(date(2017, 1, 1), date(2017, 12, 31))
    rows += [("u1", f"old{n}", 5, second(date(2016, 12, 31))) for n in range(30)]
    names = ("reviewerID", "asin", "overall", "unixReviewTime")
    with gzip.open(tmp_path / "Books.json.gz", "wt") as handle:
        handle.writelines(json.dumps(dict(zip(names, row, strict=True))) + "\n" for row in rows)
    with gzip.open(tmp_path / "meta_Books.json.gz", "wt") as handle:
        items = sorted({row[1] for row in rows})
        handle.writelines(json.dumps({"asin": i, "title": f"Book {i}", "category": ["Books"]}) + "\n" for i in items)
    found = prepared("amazon-book", tmp_path, tmp_path / "out")
    assert sizes(found) == expected(rows, date(2017, 1, 1), date(2017, 11, 1), date(2018, 1, 1))
    assert found["filtered"] == {"users_not_sampled": 0, "duplicates": 0, "outside_window": 30, "rare": 2}
    liked = sum(values["positives"] for values in found["splits"].values())
    assert liked == sum(rating == 5 for user, item, rating, _ in rows[: USERS * ITEMS])
    told = [line for line in warnings(found) if "published" in line]
    assert [line.split()[0] for line in told] == ["train", "valid", "test"]
    assert "published are 650,865" in told[0]


def test_yelp_trains_until_november_2019_and_halves_the_rest(tmp_path: Path) -> None:
    rows = reviews(date(2010, 1, 1), date(2022, 12, 31))
    rows += [("u1", "i1", 5, second(date(2009, 12, 31))), ("u1", "i2", 5, second(date(2023, 1, 1)))]
    names = ("user_id", "business_id", "stars")
    lines = [
        {**dict(zip(names, row[:3], strict=True)), "date": f"{datetime.fromtimestamp(row[3], UTC):%Y-%m-%d %H:%M:%S}"}
        for row in rows
    ]
    shops = [{"business_id": i, "name": f"Shop {i}", "categories": "Food"} for i in sorted({row[1] for row in rows})]
    for name, values in (("review", lines), ("business", shops)):
        text = "".join(json.dumps(line) + "\n" for line in values)
        (tmp_path / f"yelp_academic_dataset_{name}.json").write_text(text)
    found = prepared("yelp", tmp_path, tmp_path / "out", duplicates="first")
    assert found["filtered"]["duplicates"] == 2
    kept = {row[:2]: row for row in sorted(rows, key=lambda row: -row[3])}  # the first of a pair stays
    wanted = expected(list(kept.values()), date(2010, 1, 1), date(2019, 12, 1), date(2023, 1, 1))
    assert sizes(found) == wanted
    assert sum("published are 144,929" in line for line in warnings(found)) == 2


def test_ml_1m_raw_takes_the_published_months(tmp_path: Path) -> None:
    days = [
        date(2001, 5, 31),
        date(2001, 6, 1),
        date(2002, 3, 31),
        date(2002, 4, 1),
        date(2002, 8, 31),
        date(2002, 9, 1),
    ]
    days += [date(2003, 1, 31), date(2003, 2, 1)]
    rows = [(u, n, 1 + (u + n) % 5, second(day)) for u in range(1, 4) for n, day in enumerate(days, 1)]
    write_ml_1m(tmp_path, rows, {n: f"Film {n} (1999)" for n in range(1, 9)})
    found = prepared("ml-1m-raw", tmp_path, tmp_path / "out")
    assert sizes(found) == {"train": 6, "valid": 6, "test": 6}
    assert found["filtered"]["outside_window"] == 6
    assert len([line for line in warnings(found) if "published are" in line]) == 5


def write_ml_1m(folder: Path, rows: list[tuple[Any, ...]], titles: dict[int, str]) -> None:
    folder.joinpath("ratings.dat").write_text("".join("::".join(map(str, row)) + "\n" for row in rows))
    lines = "".join(f"{item}::{title}::Drama\n" for item, title in titles.items())
    folder.joinpath("movies.dat").write_bytes(lines.encode("latin-1", "replace"))


@pytest.mark.skipif("THINKREC_ML1M" not in os.environ, reason="THINKREC_ML1M names the published ML-1M split")
def test_ml_1m_raw_rebuilds_the_published_split(tmp_path: Path) -> None:
    published = pq.read_table(Path(os.environ["THINKREC_ML1M"]) / "interactions.parquet").to_pylist()
    titles = pq.read_table(Path(os.environ["THINKREC_ML1M"]) / "items.parquet").to_pylist()
    rows = [(row["user_id"], row["item_id"], 5 if row["label"] else 1, row["timestamp"]) for row in published]
    rows += [
        (0, rows[0][1], 5, second(day) + 86_399 * late) for late, day in ((1, date(2001, 5, 31)), (0, date(2003, 2, 1)))
    ]
    write_ml_1m(tmp_path, rows, {row["item_id"]: row["title"] for row in titles})
    found = prepared("ml-1m-raw", tmp_path, tmp_path / "out", history="liked", max_history=10_000)
    assert not [line for line in warnings(found) if "published are" in line]
    assert sizes(found) == {"train": 33_891, "valid": 10_401, "test": 7_331}
    splits = {(str(row["user_id"]), str(row["item_id"])): row for row in published}
    raw_id = {row["item_idx"]: row["item_id"] for row in pq.read_table(tmp_path / "out" / "items.parquet").to_pylist()}
    for split in sizes(found):
        for row in read_table(tmp_path / "out" / f"samples_{split}.parquet", SAMPLES).to_pylist():
            given = splits[row["user_id"], row["item_id"]]
            assert (split, row["label"], row["not_cold"]) == (given["split"], given["label"], given["not_cold"])
            assert [raw_id[item] for item in row["history_item_idx"]] == [str(i) for i in given["liked_history"]]
