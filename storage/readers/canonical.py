"""A folder with interactions.{parquet,csv} and items.{parquet,csv} in canonical column names.

interactions: user_id, item_id, timestamp (seconds), rating or label (0/1; wins over rating), optional split.
items: item_id, title, optional keywords (text) or genres ("A|B"). Other columns are ignored. Where a folder holds both
formats of a table, Parquet is read.
"""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as csv
import pyarrow.parquet as pq

from storage.assets import cache_folder
from storage.file_digests import joint_digest, remembered_digest
from storage.readers import columns
from storage.readers.raw import ITEM, KEYWORDS, LABEL, RATING, SPLIT, TIMESTAMP, TITLE, USER, RawData
from thinkrec_core.errors import DataError, one_line

GENRES = "genres"
FORMATS = (".parquet", ".csv")


def read(source: str) -> RawData:
    """The checked content of the folder `source`.

    Raises:
        DataError: a file or column is missing, a table is empty, a value cannot be used, or the item of an interaction
            has no row in items.
    """
    interactions_file, items_file = _files(Path(source))
    interactions = _interactions(_table(interactions_file), interactions_file.name)
    items = _items(_table(items_file), items_file.name)
    known = pc.is_in(interactions.column(ITEM), value_set=items.column(ITEM).combine_chunks())
    row = pc.index(known, False).as_py()
    if row >= 0:
        item = interactions.column(ITEM)[row].as_py()
        raise DataError(
            f"{interactions_file.name}: item_id {item!r} in data row {row + 1} has no row in {items_file.name}",
            "a title for every item",
            "add the item or remove its interactions",
        )
    return RawData(interactions, items, digest(source), Path(source).resolve().name)


def digest(source: str) -> str:
    """sha256 over the two files that `read` would take, by name and content; nothing is parsed.

    Raises:
        DataError: the folder or a file is missing or cannot be read.
    """
    try:
        return joint_digest({path.name: remembered_digest(path, cache_folder()) for path in _files(Path(source))})
    except OSError as error:
        raise DataError(f"{error.filename} cannot be read ({error.strerror})", "a readable file") from None


def _files(folder: Path) -> tuple[Path, Path]:
    if not folder.is_dir():
        raise DataError(
            f"data.source {str(folder)!r} is neither a known data set nor a folder",
            "ml-100k, or a folder with interactions.{parquet,csv} and items.{parquet,csv}",
            "check data.source",
        )
    return _file(folder, "interactions"), _file(folder, "items")


def _file(folder: Path, stem: str) -> Path:
    for suffix in FORMATS:
        path = folder / f"{stem}{suffix}"
        if path.is_file():
            return path
    raise DataError(f"folder {folder} has no {stem}.parquet or {stem}.csv", "one of them", "check data.source")


def _table(path: Path) -> pa.Table:
    """All columns of `path`; those of a CSV as text, so that a bad value can be named."""
    try:
        if path.stat().st_size == 0:
            raise DataError(f"{path.name} is empty (0 bytes)", "a header and rows", "check data.source")
        table = pq.read_table(path) if path.suffix == ".parquet" else _csv(path)
    except (pa.ArrowException, OSError) as error:
        raise DataError(
            f"{path.name} cannot be read ({one_line(str(error), 200)})", f"a {path.suffix[1:]} table"
        ) from None
    if table.num_rows == 0:
        raise DataError(
            f"{path.name} has no rows, only columns {', '.join(table.column_names)}"[:300], "at least one row"
        )
    return table


def _csv(path: Path) -> pa.Table:
    with csv.open_csv(path) as reader:
        names = reader.schema.names
    options = csv.ConvertOptions(column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False)
    return csv.read_csv(path, parse_options=csv.ParseOptions(newlines_in_values=True), convert_options=options)


def _interactions(table: pa.Table, file: str) -> pa.Table:
    found = {
        USER: columns.identifiers(table, USER, file),
        ITEM: columns.identifiers(table, ITEM, file),
        TIMESTAMP: columns.seconds(table, TIMESTAMP, file),
    }
    if LABEL in table.column_names:
        found[LABEL] = columns.labels(table, LABEL, file)
    elif RATING in table.column_names:
        found[RATING] = columns.numbers(table, RATING, file)
    else:
        raise DataError(f"{file} has neither rating nor label", "one of them", "add or rename a column")
    if SPLIT in table.column_names:
        found[SPLIT] = columns.split_names(table, SPLIT, file)
    return pa.table(found)


def _items(table: pa.Table, file: str) -> pa.Table:
    ids = columns.identifiers(table, ITEM, file)
    counts = pc.value_counts(ids)
    repeated = counts.filter(pc.greater(counts.field("counts"), 1))
    if len(repeated):
        raise DataError(
            f"{file}: item_id {repeated[0]['values'].as_py()!r} has {repeated[0]['counts'].as_py()} rows",
            "one row per item",
            "remove the others",
        )
    if KEYWORDS in table.column_names:
        keywords = columns.texts(table, KEYWORDS, file, required=False)
    elif GENRES in table.column_names:
        keywords = pc.replace_substring(columns.texts(table, GENRES, file, required=False), "|", ", ")
    else:
        keywords = pa.array([""] * len(ids), pa.string())
    return pa.table({ITEM: ids, TITLE: columns.texts(table, TITLE, file, required=True), KEYWORDS: keywords})
