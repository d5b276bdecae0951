"""A folder with interactions.{parquet,csv,jsonl} and items.* in canonical column names.

interactions: user_id, item_id, timestamp (seconds), rating or label (0/1; wins over rating), optional split.
items: item_id, title, optional keywords (text) or genres ("A|B"), optional description. Other columns are ignored.
Where a folder holds several formats of a table, the first of the list is read.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from storage.readers.files import Part
from storage.readers.layout import GENRES, Layout
from storage.readers.raw import DESCRIPTION, ITEM, KEYWORDS, LABEL, RATING, SPLIT, TIMESTAMP, TITLE, USER
from thinkrec_core.errors import DataError

FORMATS = (".parquet", ".csv", ".csv.gz", ".jsonl", ".jsonl.gz")
INTERACTION_NAMES = (USER, ITEM, TIMESTAMP, RATING, LABEL, SPLIT)
ITEM_NAMES = (ITEM, TITLE, KEYWORDS, GENRES, DESCRIPTION)


def detect(source: Path) -> bool:
    """Whether `source` is such a folder."""
    return any((source / f"interactions{suffix}").is_file() for suffix in FORMATS)


def layout(source: Path, columns: dict[str, str] | None = None) -> Layout:
    """The two files of the folder `source`.

    Raises:
        DataError: the folder or a file is missing.
    """
    if not source.is_dir():
        raise DataError(
            f"data.source {str(source)!r} is neither a known data set nor a folder",
            "ml-100k, or a folder with interactions.{parquet,csv} and items.{parquet,csv}",
            "check data.source",
        )
    return Layout(
        part(_file(source, "interactions"), {name: (name,) for name in INTERACTION_NAMES}),
        part(_file(source, "items"), {name: (name,) for name in ITEM_NAMES}),
    )


def part(path: Path, columns: Mapping[str, tuple[str, ...]]) -> Part:
    """`path` by its suffix."""
    kinds = {".parquet": "parquet", ".jsonl": "jsonl", ".json": "jsonl"}
    suffix = Path(path.name.removesuffix(".gz")).suffix
    return Part(path, columns, kind=kinds.get(suffix, "csv"), delimiter="\t" if suffix == ".tsv" else ",")


def _file(folder: Path, stem: str) -> Path:
    for suffix in FORMATS:
        path = folder / f"{stem}{suffix}"
        if path.is_file():
            return path
    raise DataError(f"folder {folder} has no {stem}.parquet or {stem}.csv", "one of them", "check data.source")
