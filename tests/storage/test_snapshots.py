"""Data sets that grow: ids that never change, equal bytes from scratch, and crashes at any moment."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage.prepare_folder import prepare_folder
from storage.readers.registry import configured_source
from storage.readers.snapshots import snapshots_of
from storage.schemas import INTERACTIONS, ITEMS, REJECTED
from storage.snapshots import Appended, Content, append_snapshot
from storage.tables import read_table
from thinkrec_core.config.data import DataConfig
from thinkrec_core.errors import DataError

Row = tuple[str, str, int, int]
DAY = 86_400


def export(folder: Path, rows: list[Row], titles: dict[str, str] | None = None) -> Path:
    """A source of `rows` (user, item, rating, timestamp); items are named in `titles`, or all of them."""
    folder.mkdir()
    lines = ["user_id,item_id,rating,timestamp", *(",".join(map(str, row)) for row in rows)]
    (folder / "interactions.csv").write_text("\n".join(lines) + "\n")
    titles = {item: f"Title {item}" for _, item, *_ in rows} if titles is None else titles
    (folder / "items.csv").write_text("item_id,title\n" + "".join(f"{i},{t}\n" for i, t in titles.items()))
    return folder


def append(source: Path, dataset: Path, **fields: Any) -> Appended:
    return append_snapshot(DataConfig(source=str(source), **fields), dataset)


def prepared(dataset: Path, out: Path, **fields: Any) -> dict[str, Any]:
    return prepare_folder(DataConfig(source=str(dataset), **fields), 7, out)


def digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def ids(folder: Path) -> dict[str, int]:
    """user_id -> user_idx of a prepared folder."""
    rows = read_table(folder / "interactions.parquet", INTERACTIONS).to_pylist()
    return {row["user_id"]: row["user_idx"] for row in rows}


FIRST: list[Row] = [(f"u{u}", f"i{t}", 1 + (u + t) % 5, (100 + 3 * t) * DAY + u) for u in range(4) for t in range(8)]
FIRST += [("rare", "i0", 5, DAY)]
SECOND: list[Row] = [(f"{u}", f"i{t}", 1 + (u * t) % 5, (50 + 4 * t) * DAY + u) for u in (9, 10, 11) for t in range(10)]
SECOND += [("u0", "i9", 4, 10 * DAY)]  # a known user, earlier than ever


@pytest.fixture
def grown(tmp_path: Path) -> Path:
    append(export(tmp_path / "one", FIRST), tmp_path / "grown")
    append(export(tmp_path / "two", SECOND), tmp_path / "grown")
    return tmp_path / "grown"


def test_ids_stay_when_snapshots_are_added_and_when_filters_change(grown: Path, tmp_path: Path) -> None:
    before = tmp_path / "before"
    append(tmp_path / "one", before)
    prepared(before, tmp_path / "p0")
    statistics = prepared(grown, tmp_path / "p1")
    assert ids(tmp_path / "p0").items() <= ids(tmp_path / "p1").items()
    # By snapshot, then first timestamp in it, then the number where all new ids are numbers.
    assert ids(tmp_path / "p1") == {"rare": 1, "u0": 2, "u1": 3, "u2": 4, "u3": 5, "9": 6, "10": 7, "11": 8}
    assert (statistics["users"], statistics["items"], statistics["rows_read"]) == (8, 10, 64)

    few = prepared(grown, tmp_path / "p2", k_core=5)
    assert ids(tmp_path / "p2") == {user: idx for user, idx in ids(tmp_path / "p1").items() if user != "rare"}
    assert (few["users"], few["users_with_rows"], few["items"], few["items_with_rows"]) == (8, 7, 10, 8)
    items = [read_table(tmp_path / name / "items.parquet", ITEMS).to_pylist() for name in ("p1", "p2")]
    assert items[0] == items[1]  # the whole vocabulary, so that vectors of the encoder keep their places

    rolling = {"split": "rolling", "rolling": {"train_days": 10, "valid_days": 5, "test_days": 6}}
    prepared(grown, tmp_path / "p3", **rolling)
    assert ids(tmp_path / "p3").items() <= ids(tmp_path / "p1").items()
    late = prepared(grown, tmp_path / "p4", not_after="1970-04-20")
    assert late["filtered"]["too_late"] == sum(row[3] >= 110 * DAY for row in [*FIRST, *SECOND]) > 0
    assert ids(tmp_path / "p4").items() <= ids(tmp_path / "p1").items()


def test_the_same_snapshots_from_scratch_give_the_same_bytes(grown: Path, tmp_path: Path) -> None:
    again = tmp_path / "again"
    for name in ("one", "two"):
        append(tmp_path / name, again)
    assert digests(again) == digests(grown)
    for number, dataset in enumerate((grown, again)):
        prepared(dataset, tmp_path / f"out{number}" / "same")
    one, two = (digests(tmp_path / f"out{number}" / "same") for number in (0, 1))
    changed = {name for name in one if one[name] != two[name]}
    assert changed == {"statistics.json"}  # which names the data set
    text = (tmp_path / "out1" / "same" / "statistics.json").read_text()
    assert text.replace('"again"', '"grown"') == (tmp_path / "out0" / "same" / "statistics.json").read_text()


def test_the_same_content_is_there_once(grown: Path, tmp_path: Path) -> None:
    before = digests(grown)
    columns = {"user": "uid", "item": "item_id", "rating": "stars", "timestamp": "at"}
    copy = export(tmp_path / "copy", FIRST)
    table = pa.table(
        {columns[name]: list(values) for name, values in zip(columns, zip(*FIRST, strict=True), strict=True)}
    )
    (copy / "interactions.csv").unlink()
    pq.write_table(table, copy / "interactions.parquet", row_group_size=3)
    found = append(copy, grown, format="table", columns=columns)  # another file type, the same rows
    assert (found.added, found.snapshot) == (False, snapshots_of(grown)[0].name)
    assert digests(grown) == before


def test_items_of_earlier_snapshots_are_known_and_the_newest_texts_count(grown: Path, tmp_path: Path) -> None:
    third = export(tmp_path / "three", [("new", "i0", 5, 300 * DAY), ("new", "i1", 1, 301 * DAY)], {"i1": "Renamed"})
    found = append(third, grown)
    assert (found.rows, found.rejected, found.snapshot[:6]) == (2, 0, "000003")
    titles = {
        row["item_id"]: row["title"] for row in configured_source(DataConfig(source=str(grown))).items.to_pylist()
    }
    assert (titles["i0"], titles["i1"], len(titles)) == ("Title i0", "Renamed", 10)


def test_descriptions_are_kept_where_they_are_asked_for(grown: Path, tmp_path: Path) -> None:
    third = export(tmp_path / "three", [("new", "i0", 5, 300 * DAY)])
    (third / "items.csv").write_text("item_id,title,description\ni0,Zero," + "long " * 300 + "\n")
    append(third, grown, keywords="teacher")
    items = configured_source(DataConfig(source=str(grown))).items.to_pylist()
    texts = {row["item_id"]: row["description"] for row in items}
    assert (texts.pop("i0"), set(texts.values())) == ("long " * 200, {""})
    assert "description" not in configured_source(DataConfig(source=str(third))).items.column_names


def test_rejected_rows_stay_visible(grown: Path, tmp_path: Path) -> None:
    bad = export(tmp_path / "bad", [("x", "i0", 5, 300 * DAY), ("x", "i1", 2, 301 * DAY)])
    with (bad / "interactions.csv").open("a") as handle:
        handle.write("x,i2,five,9\n")
    nothing = export(tmp_path / "nothing", [("x", "i0", 5, 9)])
    (nothing / "interactions.csv").write_text("user_id,item_id,rating,timestamp\nx,unknown,5,9\n")
    with pytest.raises(DataError, match="has no rows that can be used"):
        append(nothing, grown, max_rejected=1)
    with pytest.raises(DataError, match=r"rating is 'five' in data row 3.*1 of 3 rows cannot be used"):
        append(bad, grown)
    assert len(snapshots_of(grown)) == 2
    found = append(bad, grown, max_rejected=0.5)
    assert (found.rows, found.rejected) == (2, 1)
    statistics = prepared(grown, tmp_path / "out", max_rejected=0.5)
    assert (statistics["rows_read"], statistics["rejected"]) == (67, 1)
    assert statistics["rejected_reasons"] == {"a number": 1}
    assert read_table(tmp_path / "out" / "rejected.parquet", REJECTED).to_pylist() == [
        {"file": f"{found.snapshot}/interactions.csv", "row": 3, "reason": "rating is 'five'; expected a number"}
    ]


def test_what_cannot_be_appended_is_told_and_leaves_nothing(grown: Path, tmp_path: Path) -> None:
    before = digests(grown)
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "interactions.csv").write_text("user_id,item_id,label,timestamp\nu,i0,1,5\n")
    (tmp_path / "labels" / "items.csv").write_text("item_id,title\ni0,T\n")
    future = export(tmp_path / "future", [("x", "i0", 5, 99_999_999_999)])
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.txt").touch()
    for source, dataset, message in (
        (tmp_path / "labels", grown, "labels gives .*label.*as the first snapshot has"),
        (future, grown, "newest row of future has the timestamp 99999999999, after today.*set data.not_after"),
        (tmp_path / "one", tmp_path / "notes", "is no data set of snapshots"),
        (grown, tmp_path / "other", "is a data set of snapshots itself"),
        (tmp_path / "none", grown, "neither a known data set nor a folder"),
    ):
        with pytest.raises(DataError, match=message):
            append(source, dataset)
    assert digests(grown) == before
    assert not (tmp_path / "other").exists()
    empty = tmp_path / "empty"
    (empty / "snapshots").mkdir(parents=True)
    with pytest.raises(DataError, match="holds no snapshot yet"):
        configured_source(DataConfig(source=str(empty)))


def test_a_changed_or_lost_snapshot_is_told(grown: Path, tmp_path: Path) -> None:
    path = snapshots_of(grown)[1].folder / "interactions.parquet"
    assert path.stat().st_mode & 0o222 == 0
    path.chmod(0o644)
    path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(DataError, match="was changed after it was appended"):
        prepared(grown, tmp_path / "out")
    os.rename(snapshots_of(grown)[0].folder, tmp_path / "moved")
    with pytest.raises(DataError, match="expected snapshot 000001 there"):
        prepared(grown, tmp_path / "out")


@pytest.mark.parametrize(
    "place", ["append.rows", pytest.param("append.synced", marks=pytest.mark.slow), "append.renamed"]
)
def test_a_crash_leaves_a_whole_snapshot_or_none(tmp_path: Path, place: str) -> None:
    dataset = tmp_path / "grown"
    append(export(tmp_path / "one", FIRST), dataset)
    export(tmp_path / "two", SECOND)
    code = (
        "import sys; from pathlib import Path; from storage.snapshots import append_snapshot;"
        "from thinkrec_core.config.data import DataConfig;"
        "append_snapshot(DataConfig(source=sys.argv[1]), Path(sys.argv[2]))"
    )
    died = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "two"), str(dataset)],
        env={**os.environ, "THINKREC_CRASH_AT": place},
        cwd=Path(__file__).parents[2],
        check=False,
        timeout=60,
    )
    assert died.returncode == -signal.SIGKILL
    assert len(snapshots_of(dataset)) == (2 if place == "append.renamed" else 1)
    prepared(dataset, tmp_path / "out")
    found = append(tmp_path / "two", dataset)
    assert (found.added, found.snapshot[:6]) == (place != "append.renamed", "000002")
    assert sorted(path.name[:6] for path in (dataset / "snapshots").iterdir()) == ["000001", "000002"]


@settings(max_examples=30, deadline=None, derandomize=True)
@given(
    st.lists(st.tuples(st.sampled_from(["", "a", "é", "ab"]), st.integers(-5, 5)), min_size=1, max_size=12), st.data()
)
def test_the_content_digest_does_not_see_chunks(rows: list[tuple[str, int]], data: st.DataObject) -> None:
    table = pa.table({"a": pa.array([a for a, _ in rows], pa.string()), "b": [b for _, b in rows]})
    whole, pieces = Content(), Content()
    whole.add("t", table)
    cut = data.draw(st.integers(0, len(rows)))
    for piece in (table.slice(0, 0), table.slice(0, cut), table.schema.empty_table(), table.slice(cut)):
        pieces.add("t", piece)
    assert whole.hexdigest() == pieces.hexdigest()
    other = Content()
    other.add("t", table.set_column(1, "b", pa.array([b + 1 for _, b in rows])))
    assert other.hexdigest() != whole.hexdigest()


Numbered = st.lists(
    st.tuples(st.sampled_from(["1", "2", "03", "x"]), st.sampled_from("abcd"), st.integers(1, 5), st.integers(0, 9)),
    min_size=1,
    max_size=10,
)


@settings(max_examples=8, deadline=None, derandomize=True, database=None)
@given(st.lists(Numbered, min_size=1, max_size=3, unique_by=lambda rows: json.dumps(rows)))
def test_ids_against_plain_python(tmp_path_factory: pytest.TempPathFactory, parts: list[list[Row]]) -> None:
    folder = tmp_path_factory.mktemp("parts")
    for number, rows in enumerate(parts):
        append(export(folder / str(number), rows), folder / "grown")
    import duckdb

    from storage import prepare_sql as sql

    expected: list[str] = []
    for rows in parts:
        first = {user: min(row[3] for row in rows if row[0] == user) for user, *_ in rows if user not in expected}
        numeric = all(user.isdecimal() for user in first)
        expected += sorted(first, key=lambda user: (first[user], int(user) if numeric else 0, user))
    with duckdb.connect(":memory:") as database:
        database.register("raw", configured_source(DataConfig(source=str(folder / "grown"))).reader().read_all())
        database.execute(sql.KNOWN_BY_SNAPSHOT.format(table="users", id="user_id", idx="user_idx"))
        found = database.execute("SELECT user_id, user_idx FROM known_users ORDER BY user_idx").fetchall()
    assert found == [(user, index) for index, user in enumerate(expected, 1)]
