"""Sources: what a reader returns, and the one line that each unusable source gives."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from storage.assets import RECBOLE, cache_folder
from storage.readers import ml100k
from storage.readers.registry import configured_digest, read_source
from thinkrec_core.config.data import DataConfig
from thinkrec_core.errors import DataError

ITEMS = 'item_id,title,genres,year\na,Alpha,Drama|War,1990\nb,"Beta, the second",,\n'
ROWS = "user_id,item_id,rating,timestamp\nu1,a,4,100\nu1,b,3.5,100\nu2,a,1,90\n"


def folder(tmp_path: Path, rows: str = ROWS, items: str = ITEMS) -> str:
    (tmp_path / "interactions.csv").write_text(rows)
    (tmp_path / "items.csv").write_text(items)
    return str(tmp_path)


def test_a_csv_folder_in_file_order(tmp_path: Path) -> None:
    raw = read_source(folder(tmp_path))
    assert raw.table().to_pydict() == {
        "user_id": ["u1", "u1", "u2"],
        "item_id": ["a", "b", "a"],
        "timestamp": [100, 100, 90],
        "rating": [4.0, 3.5, 1.0],
    }
    assert raw.items.to_pydict() == {
        "item_id": ["a", "b"],
        "title": ["Alpha", "Beta, the second"],
        "keywords": ["Drama, War", ""],
    }
    assert (raw.has_labels, raw.has_split, raw.name) == (False, False, tmp_path.name)


def test_a_parquet_folder_with_labels_split_numeric_ids_and_times(tmp_path: Path) -> None:
    rows = {
        "user_id": pa.array([7, 8], pa.int32()),
        "item_id": pa.array([1, 2], pa.int64()),
        "label": pa.array([True, False]),
        "rating": pa.array([1.0, 5.0]),
        "timestamp": pa.array([100_000, 200_999], pa.timestamp("ms")),
        "split": pa.array(["train", "test"]).dictionary_encode(),
    }
    items = {"item_id": pa.array([1, 2], pa.int16()), "title": ["One", "Two"], "keywords": ["x, y", None]}
    pq.write_table(pa.table(rows), tmp_path / "interactions.parquet")
    pq.write_table(pa.table(items), tmp_path / "items.parquet")
    raw = read_source(str(tmp_path))
    assert raw.table().to_pydict() == {
        "user_id": ["7", "8"],
        "item_id": ["1", "2"],
        "timestamp": [100, 200],
        "label": [1, 0],
        "split": ["train", "test"],
    }
    assert raw.items.column("keywords").to_pylist() == ["x, y", ""]


def test_the_digest_follows_the_two_files_and_not_the_place(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir()
    two.mkdir()
    first = configured_digest(DataConfig(source=folder(one)))
    (two / "notes.txt").write_text("ignored")
    assert configured_digest(DataConfig(source=folder(two))) == first == read_source(str(one)).digest
    assert configured_digest(DataConfig(source=folder(two, ROWS + "u3,a,2,1\n"))) != first


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("", r"interactions\.csv is empty \(0 bytes\)"),
        ("user_id,item_id,rating,timestamp\n", r"interactions\.csv has no rows"),
        (ROWS.replace("rating", "stars"), "neither rating nor label"),
        (ROWS.replace("timestamp", "time"), "no column timestamp"),
        (ROWS.replace("user_id", "item_id"), "no column user_id"),
        (ROWS.replace("3.5", "good"), "rating is 'good' in data row 2; expected a number"),
        (ROWS.replace("3.5", ""), "rating is '' in data row 2"),
        (ROWS.replace("3.5", "nan"), "rating is 'nan' in data row 2"),
        (ROWS.replace("3.5", "1_000"), "rating is '1_000' in data row 2"),
        (ROWS.replace("3.5", "1e999"), "rating is '1e999' in data row 2; expected a finite number"),
        (ROWS.replace(",90", ",soon"), "timestamp is 'soon' in data row 3"),
        (ROWS.replace(",90", ",90.5"), r"timestamp is '90\.5' in data row 3; expected whole seconds"),
        (ROWS.replace(",90", ",978300760000"), "timestamp is '978300760000' in data row 3; expected seconds"),
        (ROWS.replace("u2,", ","), "user_id is '' in data row 3"),
        (ROWS.replace("u2,a", "u2,z"), r"item_id is 'z' in data row 3; expected an item with a title in items\.csv"),
        (ROWS + "u3,a\n", r"interactions\.csv: line 'u3,a' has 2 columns in data row 4; expected 4 columns"),
        (ROWS.replace("rating", "label"), "label is '4' in data row 1; expected 0 or 1"),
        (
            "user_id,item_id,label,timestamp,split\nu,a,1,5,train\nu,b,0,6,dev\n",
            "split is 'dev' in data row 2; expected train, valid, test",
        ),
    ],
)
def test_unusable_interactions(tmp_path: Path, rows: str, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        read_source(folder(tmp_path, rows)).table()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("items", "message"),
    [
        ("", r"items\.csv is empty"),
        (ITEMS.replace("title", "name"), r"items\.csv has no column title"),
        (ITEMS.replace("Alpha", " "), "title is '' in data row 1; expected text"),
        (ITEMS + "a,Again,,\n", "item_id 'a' has 2 rows"),
    ],
)
def test_unusable_items(tmp_path: Path, items: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_source(folder(tmp_path, items=items))


def test_missing_folder_and_missing_files(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"data\.source 'ml-100m' is neither a known data set nor a folder"):
        read_source("ml-100m")
    with pytest.raises(DataError, match=r"has no interactions\.parquet or interactions\.csv"):
        configured_digest(DataConfig(source=str(tmp_path)))
    (tmp_path / "interactions.csv").write_text(ROWS)
    with pytest.raises(DataError, match=r"has no items\.parquet or items\.csv"):
        read_source(str(tmp_path))


def test_damaged_parquet(tmp_path: Path) -> None:
    folder(tmp_path)
    (tmp_path / "interactions.parquet").write_bytes(b"PAR1 no more")
    with pytest.raises(DataError, match=r"interactions\.parquet cannot be read"):
        read_source(str(tmp_path)).table()


def test_traps_of_the_recbole_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Invented rows in the form of the real files: a quote, a placeholder title, a year that is none.
    wheel = tmp_path / "w.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(
            f"{ml100k.MEMBER}.inter",
            "user_id:token\titem_id:token\trating:float\ttimestamp:float\n10\t2\t3\t881250949\n9\t1\t5\t881250948\n",
        )
        archive.writestr(
            f"{ml100k.MEMBER}.item",
            "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\n"
            '1\tThe "Été"\t1995\tFilm-Noir Children\'s\n2\tunkonwn\tunkonwn\tunknown\n3\tCut (1995)\tV\tDrama\n',
        )
    monkeypatch.setattr(ml100k, "ml100k_wheel", lambda: wheel)
    raw = read_source("ml-100k")
    assert raw.table().to_pydict() == {
        "user_id": ["10", "9"],
        "item_id": ["2", "1"],
        "rating": [3.0, 5.0],
        "timestamp": [881250949, 881250948],
    }
    assert raw.items.column("title").to_pylist() == ['The "Été" (1995)', "Unknown title", "Cut (1995)"]
    assert raw.items.column("keywords").to_pylist() == ["Film-Noir, Children's", "", "Drama"]
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("other", "")
    with pytest.raises(DataError, match=r"has no readable .*ml-100k\.inter"):
        read_source("ml-100k")


@pytest.mark.skipif(not (cache_folder() / RECBOLE.file_name).is_file(), reason="make setup fetches the wheel")
def test_the_real_movielens_100k() -> None:
    raw = read_source("ml-100k")
    assert (raw.table().num_rows, raw.items.num_rows) == (100_000, 1_682)
    assert len(raw.table().column("user_id").unique()) == 943
    assert sorted(raw.table().column("rating").unique().to_pylist()) == [1, 2, 3, 4, 5]
    assert len(set(raw.items.column("title").to_pylist())) < 1_682  # titles do not identify items
    assert configured_digest(DataConfig(source="ml-100k")) == raw.digest == RECBOLE.sha256
