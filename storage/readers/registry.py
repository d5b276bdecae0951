"""From a source to its reader: a registered data set, a named format, or what the files look like.

A new format is one file with `detect(folder)` and `layout(folder, columns)`, and one line here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from storage.readers import amazon, canonical, layout, ml100k, movielens, movietweetings, recbole, table, yelp
from storage.readers.raw import RawData
from thinkrec_core.errors import DataError

Detect = Callable[[Path], bool]
Make = Callable[[Path, dict[str, str] | None], layout.Layout]


@dataclass(frozen=True)
class Format:
    """How a format is recognised and where its files are."""

    detect: Detect
    layout: Make


FORMATS = {
    "movietweetings": Format(movietweetings.detect, movietweetings.layout),
    "movielens": Format(movielens.detect, movielens.layout),
    "yelp": Format(yelp.detect, yelp.layout),
    "recbole": Format(recbole.detect, recbole.layout),
    "canonical": Format(canonical.detect, canonical.layout),
    "amazon": Format(amazon.detect, amazon.layout),
    "table": Format(Path.is_file, table.layout),
}
"""In the order in which `auto` tries them."""


def read_source(source: str, form: str = "auto", columns: Mapping[str, str] | None = None) -> RawData:
    """The content of `source` in the format `form`; `columns` is the mapping of a `table`.

    Raises:
        DataError: the source is unknown, incomplete, or holds items that cannot be used.
        AssetError: a pinned download is missing or damaged.
    """
    if source == ml100k.NAME:
        return ml100k.read(source)
    return layout.read(_layout(source, form, columns), layout.name_of(source))


def source_digest(source: str, form: str = "auto", columns: Mapping[str, str] | None = None) -> str:
    """sha256 of the files of `source`, read but not parsed.

    Raises:
        DataError: the source is unknown or a file of it is missing.
    """
    return ml100k.digest(source) if source == ml100k.NAME else layout.digest(_layout(source, form, columns))


def _layout(source: str, form: str, columns: Mapping[str, str] | None) -> layout.Layout:
    folder = Path(source)
    if form == "auto":
        form = "table" if columns else next((n for n, f in FORMATS.items() if _is(f, folder)), "canonical")
    if form not in FORMATS:
        raise DataError(f"format is {form!r}", "auto, " + ", ".join(sorted(FORMATS)))
    return FORMATS[form].layout(folder, dict(columns or {}))


def _is(form: Format, folder: Path) -> bool:
    try:
        return form.detect(folder)
    except OSError as error:
        raise DataError(f"{folder} cannot be read ({error.strerror})", "a file or folder") from None
