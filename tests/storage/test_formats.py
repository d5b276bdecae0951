"""Each format from a handful of invented rows, and hostile files: one line of error, or rejected rows."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from storage.readers.registry import read_source
from thinkrec_core.errors import DataError

ROWS = [("1", "10", 5.0, 978300760), ("2", "11", 1.0, 978300761)]
TITLES = ["Été (1999)", "Bats: Part 2 (2001)"]
GENRES = ["Comedy, Drama", ""]


def write(folder: Path, name: str, text: str | bytes) -> None:
    (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())


def ml_100k(folder: Path) -> None:
    write(folder, "u.data", "1\t10\t5\t978300760\n2\t11\t1\t978300761\n")
    flags = [["0"] * 19, ["0"] * 19]
    flags[0][5] = flags[0][8] = flags[1][0] = "1"
    lines = [f"{i}|{t}|||u|{'|'.join(f)}\n" for i, t, f in zip(("10", "11"), TITLES, flags, strict=True)]
    write(folder, "u.item", "".join(lines).encode("latin-1"))


def ml_1m(folder: Path) -> None:
    write(folder, "ratings.dat", "1::10::5::978300760\n2::11::1::978300761\n")
    write(folder, "movies.dat", f"10::{TITLES[0]}::Comedy|Drama\n11::{TITLES[1]}::\n".encode("latin-1"))


def ml_32m(folder: Path) -> None:
    write(folder, "ratings.csv", "userId,movieId,rating,timestamp\n1,10,5.0,978300760\n2,11,1.0,978300761\n")
    movies = f'movieId,title,genres\n10,"{TITLES[0]}",Comedy|Drama\n11,{TITLES[1]},(no genres listed)\n'
    write(folder, "movies.csv", movies)


def amazon(folder: Path, old: bool) -> None:
    names = (
        ("reviewerID", "asin", "overall", "unixReviewTime")
        if old
        else ("user_id", "parent_asin", "rating", "timestamp")
    )
    reviews = [dict(zip(names, (*row[:3], row[3] * (1 if old else 1000)), strict=True)) for row in ROWS]
    with gzip.open(folder / "Movies.jsonl.gz", "wt") as handle:
        handle.writelines(json.dumps(review) + "\n" for review in reviews)
    genres = [["Comedy", "Drama"]], [[]]
    meta = [{names[1]: r[1], "title": t, "categories": g} for r, t, g in zip(ROWS, TITLES, genres, strict=True)]
    meta.append({names[1]: "12", "title": ""})
    write(folder, "meta_Movies.json", "".join((repr(m) if old else json.dumps(m)) + "\n" for m in meta))


def amazon_2014(folder: Path) -> None:
    amazon(folder, old=True)


def amazon_2023(folder: Path) -> None:
    amazon(folder, old=False)


def yelp(folder: Path) -> None:
    dates = ("2000-12-31 22:12:40", "2000-12-31 22:12:41")
    reviews = [
        {"user_id": r[0], "business_id": r[1], "stars": r[2], "date": d} for r, d in zip(ROWS, dates, strict=True)
    ]
    names = zip(ROWS, TITLES, ("Comedy, Drama", None), strict=True)
    shops = [{"business_id": r[1], "name": t, "categories": c} for r, t, c in names]
    for name, rows in (("review", reviews), ("business", shops)):
        write(folder, f"yelp_academic_dataset_{name}.json", "".join(json.dumps(row) + "\n" for row in rows))


def recbole(folder: Path) -> None:
    header = "user_id:token\titem_id:token\trating:float\ttimestamp:float\n"
    write(folder, "x.inter", header + "1\t10\t5\t978300760\n2\t11\t1\t978300761\n")
    write(
        folder,
        "x.item",
        f"item_id:token\ttitle:token_seq\tgenre:token_seq\n10\t{TITLES[0]}\tComedy, Drama\n11\t{TITLES[1]}\t\n",
    )


@pytest.mark.parametrize("make", [ml_100k, ml_1m, ml_32m, amazon_2014, amazon_2023, yelp, recbole])
def test_a_format_is_recognised_and_read(tmp_path: Path, make: object) -> None:
    make(tmp_path)  # type: ignore[operator]
    raw = read_source(str(tmp_path))
    table = raw.table()
    assert [tuple(table.column(n).to_pylist()) for n in ("user_id", "item_id", "rating", "timestamp")] == list(
        zip(*ROWS, strict=True)
    )
    assert raw.items.to_pydict() == {"item_id": ["10", "11"], "title": TITLES, "keywords": GENRES}


def test_movietweetings_has_ratings_to_ten(tmp_path: Path) -> None:
    write(tmp_path, "ratings.dat", "1::0000010::10::1381006850\n")
    write(tmp_path, "movies.dat", "0000010::La sortie (1895)::Documentary|Short\n")
    assert read_source(str(tmp_path)).table().column("rating").to_pylist() == [10.0]
    with pytest.raises(DataError, match=r"rating is 10\.0 in data row 1; expected a rating from 0\.5 to 5"):
        read_source(str(tmp_path), "movielens").table()


def test_a_table_with_a_mapping(tmp_path: Path) -> None:
    write(tmp_path, "log.csv", "uid,iid,liked,at,name\n1,10,1,5,A\n2,10,0,6,A\n")
    columns = {"user": "uid", "item": "iid", "label": "liked", "timestamp": "at", "title": "name"}
    raw = read_source(str(tmp_path / "log.csv"), "table", columns)
    assert raw.table().column("label").to_pylist() == [1, 0]
    assert raw.items.num_rows == 1
    with pytest.raises(DataError, match="--columns names usr; expected user, item"):
        read_source(str(tmp_path / "log.csv"), "table", {"usr": "uid"})


HEADER = b"user_id,item_id,rating,timestamp\n"
GOOD = b"u,a,4,5\n"


@pytest.mark.parametrize(
    ("content", "reasons"),
    [
        (b"\xef\xbb\xbf" + HEADER + GOOD, []),
        (HEADER.replace(b"\n", b"\r\n") + b"u,a,4,5\r\n", []),
        (HEADER + b"u\0v,a,4,5\n" + GOOD, [r"user_id is 'u\x00v'; expected an id"]),
        (HEADER + "é,a,4,5\n".encode("latin-1") + "ü,a,4,5\n".encode(), []),
        (HEADER + b"u,a,1e308,5\n" + b"u,a,1e309,5\n", ["rating is '1e309'; expected a finite number"]),
        (HEADER + b"u,a,4,-5\n", []),
        (
            HEADER + GOOD + b"u,a,4,1500000000000\n",
            ["timestamp is '1500000000000'; expected seconds since 1970-01-01, not finer"],
        ),
        (HEADER + '"a ""b"" c",a,4,5\n🎬,a,4,5\n'.encode(), []),
        (HEADER + b"u,a,4\n" + GOOD, ["line 'u,a,4' has 3 columns; expected 4 columns"]),
    ],
    ids=["bom", "crlf", "nul", "mixed", "huge", "negative", "milliseconds", "quotes", "short"],
)
def test_hostile_rows(tmp_path: Path, content: bytes, reasons: list[str]) -> None:
    write(tmp_path, "interactions.csv", content)
    write(tmp_path, "items.csv", b"item_id,title\na," + b"x" * 2**20 + b"\n")  # a title of 1 MB
    raw = read_source(str(tmp_path))
    rows = sum(chunk.num_rows for chunk in raw.chunks())
    assert [reason for _, _, reason in raw.rejected.records] == reasons
    assert rows >= 1
    assert rows + raw.rejected.rows == content.count(b"\n") - 1


def test_hostile_files(tmp_path: Path) -> None:
    write(tmp_path, "items.csv", "item_id,title\na,A\n")

    def refused(name: str, content: bytes, message: str) -> None:
        write(tmp_path, name, content)
        with pytest.raises(DataError, match=message) as caught:
            read_source(str(tmp_path)).table()
        assert "\n" not in str(caught.value)
        (tmp_path / name).unlink()

    refused("interactions.csv", b"", r"is empty \(0 bytes\)")
    refused("interactions.csv", HEADER, "has no rows")
    refused("interactions.csv", b"user_id,user_id,item_id,rating,timestamp\nu,u,a,4,5\n", "column user_id 2 times")
    packed = gzip.compress(HEADER + GOOD * 5000)
    refused("interactions.csv.gz", packed[: len(packed) // 2], "cannot be read")
    refused("interactions.csv.gz", gzip.compress(HEADER + GOOD * 9_000_000), "unpacks to more than")
    wrong = pa.table({"user_id": [1.5], "item_id": ["a"], "rating": [4], "timestamp": [5]})
    pq.write_table(wrong, tmp_path / "interactions.parquet")
    with pytest.raises(DataError, match="column user_id is of type double"):
        read_source(str(tmp_path)).table()
    (tmp_path / "interactions.parquet").unlink()
    (tmp_path / "interactions.csv").mkdir()
    with pytest.raises(DataError, match=r"has no interactions\.parquet"):
        read_source(str(tmp_path))
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(DataError, match="neither a known data set nor a folder"):
        read_source(str(tmp_path / "loop"))
