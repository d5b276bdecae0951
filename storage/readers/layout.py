"""A source as two parts, interactions and items: a reader of a format says where they are, this module reads and checks them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from storage.assets import cache_folder
from storage.file_digests import joint_digest, remembered_digest
from storage.readers import columns
from storage.readers.files import Part, tables
from storage.readers.raw import DESCRIPTION, ITEM, KEYWORDS, LABEL, RATING, SPLIT, TIMESTAMP, TITLE, USER, RawData
from storage.readers.rejected import Refusals, Rejected, refuse_late
from thinkrec_core.errors import DataError
from thinkrec_core.items.keywords import DESCRIPTION_LIMIT

GENRES = "genres"
DATE = "date"
"""Text `2018-07-07 22:09:11` (UTC) in place of a timestamp."""
NO_GENRES = "(no genres listed)"


@dataclass(frozen=True)
class Layout:
    """The files of one source."""

    interactions: Part
    items: Part
    scale: tuple[float, float] = (float("-inf"), float("inf"))
    """Least and greatest rating."""
    lenient_items: bool = False
    """Items without a title and repeated items are left out instead of refused (shop catalogues are never clean)."""
    finish_items: Callable[[pa.Table], pa.Table] = lambda table: table
    """Last touch on the raw item table, such as genres out of flag columns."""


def digest(layout: Layout) -> str:
    """sha256 over the files of `layout`, by name and content; nothing is parsed.

    Raises:
        DataError: a file cannot be read.
    """
    paths = {layout.interactions.path, layout.items.path}
    try:
        return joint_digest({path.name: remembered_digest(path, cache_folder()) for path in paths})
    except OSError as error:
        raise DataError(f"{error.filename} cannot be read ({error.strerror})", "a readable file") from None


def read(
    layout: Layout,
    name: str,
    before: int | None = None,
    known: pa.Array | None = None,
    descriptions: bool = False,
) -> RawData:
    """The content of `layout`; the interactions are read and checked as they are asked for.

    Args:
        before: rows from this second on are rejected.
        known: items that rows may name beside those of `layout`.
        descriptions: whether the items have their descriptions, cut to what a teacher is shown.

    Raises:
        DataError: a file or column is missing, or the items cannot be used.
    """
    rejected = Rejected()
    if not descriptions:  # they are most of the bytes of a catalogue
        wanted = {column: names for column, names in layout.items.columns.items() if column != DESCRIPTION}
        layout = replace(layout, items=replace(layout.items, columns=wanted))
    items, left_out = _items(layout)
    own = items.column(ITEM).combine_chunks()
    known = own if known is None else pa.concat_arrays([own, known])
    names = _names(layout)

    def chunks() -> Iterator[pa.Table]:
        start = 0
        for table in tables(layout.interactions, rejected):
            yield _interactions(table, layout, names, known, before, rejected, start)
            start += table.num_rows

    return RawData(chunks, items, digest(layout), name, rejected, tuple(names), left_out)


def _found(table: pa.Table, part: Part, name: str) -> str | None:
    if part.kind == "jsonl":  # every name is there, where no line has it as nulls
        return name if name in part.columns and table.column(name).null_count < table.num_rows else None
    return next((alias for alias in part.columns.get(name, ()) if alias in table.column_names), None)


def _missing(part: Part, name: str) -> str:
    """What an error calls a column that is not there."""
    return name if part.kind == "jsonl" or not part.columns[name] else part.columns[name][0]


def _names(layout: Layout) -> dict[str, str]:
    """Canonical name -> name in the file, from the first rows of the interactions."""
    part = layout.interactions
    first = next(tables(part, Rejected()), None)
    if first is None:
        raise DataError(f"{part.path.name} has no rows that can be read", "at least one row")
    found = {name: alias for name in part.columns if (alias := _found(first, part, name)) is not None}
    for name in (USER, ITEM, TIMESTAMP):
        if name not in found and not (name == TIMESTAMP and DATE in found):
            columns.take(first, _missing(part, name), part.path.name)
            raise DataError(f"{part.path.name} has no {name}", "one in every row")
    if LABEL not in found and RATING not in found:
        raise DataError(f"{part.path.name} has neither rating nor label", "one of them", "add or rename a column")
    found.pop(RATING if LABEL in found else "", None)
    if DATE in found:
        found[TIMESTAMP] = found.pop(DATE)
    return {name: found[name] for name in (USER, ITEM, TIMESTAMP, RATING, LABEL, SPLIT) if name in found}


def _interactions(
    table: pa.Table,
    layout: Layout,
    names: dict[str, str],
    known: pa.Array,
    before: int | None,
    rejected: Rejected,
    start: int,
) -> pa.Table:
    file, refuse = layout.interactions.path.name, Refusals(table.num_rows)
    by_date = names[TIMESTAMP] == DATE or names[TIMESTAMP] in layout.interactions.columns.get(DATE, ())
    convert = {
        USER: columns.identifiers,
        ITEM: columns.identifiers,
        TIMESTAMP: columns.dates if by_date else columns.seconds,
        RATING: columns.numbers,
        LABEL: columns.labels,
        SPLIT: columns.split_names,
    }
    if layout.interactions.milliseconds and not by_date:
        convert[TIMESTAMP] = columns.milliseconds
    result = pa.table({name: convert[name](table, alias, file, refuse) for name, alias in names.items()})
    if RATING in names:
        low, high = layout.scale
        ratings = result.column(RATING).combine_chunks()
        inside = pc.and_(pc.greater_equal(ratings, low), pc.less_equal(ratings, high))
        refuse(pc.invert(inside), ratings, names[RATING], file, f"a rating from {low:g} to {high:g}")
    if before is not None:
        refuse_late(refuse, result.column(TIMESTAMP).combine_chunks(), before, names[TIMESTAMP], file)
    ids, titles = result.column(ITEM).combine_chunks(), layout.items.path.name
    refuse(pc.invert(pc.is_in(ids, value_set=known)), ids, names[ITEM], file, f"an item with a title in {titles}")
    refuse.hand_over(rejected, file, start)
    return result.filter(pa.array(~refuse.bad)) if refuse.bad.any() else result


def _items(layout: Layout) -> tuple[pa.Table, int]:
    """The items, and how many rows of their file were left out."""
    part, file, unread = layout.items, layout.items.path.name, Rejected()
    table = layout.finish_items(pa.concat_tables(list(tables(part, unread)), promote_options="permissive"))
    if not layout.lenient_items:
        unread.check(table.num_rows + unread.rows, 0)
    rows = table.num_rows + unread.rows
    item, title = (_found(table, part, name) or _missing(part, name) for name in (ITEM, TITLE))
    if layout.lenient_items:
        table = _usable(table, item, title)
    ids = columns.identifiers(table, item, file)
    counts = pc.value_counts(ids)
    repeated = counts.filter(pc.greater(counts.field("counts"), 1))
    if len(repeated):
        raise DataError(
            f"{file}: {item} {repeated[0]['values'].as_py()!r} has {repeated[0]['counts'].as_py()} rows",
            "one row per item",
            "remove the others",
        )
    items = {
        ITEM: ids,
        TITLE: columns.texts(table, title, file, required=True),
        KEYWORDS: _keywords(table, part, file, len(ids)),
    }
    if DESCRIPTION in part.columns:
        found = _found(table, part, DESCRIPTION)
        texts = columns.texts(table, found, file, required=False) if found else pa.array([""] * len(ids), pa.string())
        items[DESCRIPTION] = pc.utf8_slice_codeunits(texts, 0, DESCRIPTION_LIMIT)
    return pa.table(items), rows - len(ids)


def _usable(table: pa.Table, item: str, title: str) -> pa.Table:
    """The first row of each item that has an id and a title."""
    titles = pc.utf8_trim_whitespace(pc.fill_null(columns.take(table, title, "items").cast(pa.string()), ""))
    ids = pc.fill_null(columns.take(table, item, "items").cast(pa.string()), "")
    table = table.filter(pc.and_(pc.not_equal(titles, ""), pc.not_equal(ids, "")))
    place = pa.array(range(table.num_rows), pa.int64())
    first = pa.table({"id": table.column(item), "place": place}).group_by("id").aggregate([("place", "min")])
    return table.take(first.column("place_min").combine_chunks().sort())


def _keywords(table: pa.Table, part: Part, file: str, rows: int) -> pa.Array:
    keywords, genres = _found(table, part, KEYWORDS), _found(table, part, GENRES)
    if keywords is not None:
        return columns.texts(table, keywords, file, required=False)
    if genres is None:
        return pa.array([""] * rows, pa.string())
    words = pc.replace_substring(columns.texts(table, genres, file, required=False), "|", ", ")
    return pc.if_else(pc.equal(words, NO_GENRES), "", words)


def name_of(source: str) -> str:
    """How a person calls the folder or file `source`."""
    return Path(source).resolve().name
