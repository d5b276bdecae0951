"""From a source to its reader: a registered data set, a named format, or what the files look like.

A new format is one file with `detect(folder)` and `layout(folder, columns)`, and one line here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from storage.readers import (
    amazon,
    canonical,
    layout,
    made_up,
    ml100k,
    movielens,
    movietweetings,
    recbole,
    snapshots,
    table,
    yelp,
)
from storage.readers.raw import RawData
from thinkrec_core.config.data import DataConfig
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


def configured_source(config: DataConfig, known: pa.Array | None = None) -> RawData:
    """The content of the source that `config` names.

    Args:
        known: items that rows may name beside those of the source, where it is a file format.

    Raises:
        DataError: the source is unknown, incomplete, or holds items that cannot be used.
        AssetError: a pinned download is missing or damaged.
    """
    source, before = config.source, config.before
    if source == ml100k.NAME:
        return ml100k.read(source, before)
    if source == made_up.NAME:
        return made_up.read(config.synthetic, before)
    if _is_data_set(config):
        return snapshots.read(Path(source))
    found = _layout(source, config.format, config.columns)
    return layout.read(found, layout.name_of(source), before, known, config.keywords == "teacher")


def configured_digest(config: DataConfig) -> str:
    """sha256 of the files of the source, read but not parsed.

    Raises:
        DataError: the source is unknown or a file of it is missing.
    """
    source = config.source
    if source == ml100k.NAME:
        return ml100k.digest(source)
    if source == made_up.NAME:
        return made_up.digest(config.synthetic)
    if _is_data_set(config):
        return snapshots.digest(Path(source))
    return layout.digest(_layout(source, config.format, config.columns))


def read_source(source: str, form: str = "auto", columns: Mapping[str, str] | None = None) -> RawData:
    """The content of `source` in the format `form`; `columns` is the mapping of a `table`. Raises as `configured_source`."""
    return configured_source(DataConfig(source=source, format=form, columns=dict(columns or {})))


def _is_data_set(config: DataConfig) -> bool:
    """Whether the source is a folder that `thinkrec data append` fills."""
    return config.format == snapshots.FORMAT or (config.format == "auto" and snapshots.detect(Path(config.source)))


def _layout(source: str, form: str, columns: Mapping[str, str] | None) -> layout.Layout:
    folder = Path(source)
    if form == "auto":
        form = "table" if columns else next((n for n, f in FORMATS.items() if _is(f, folder)), "canonical")
    if form not in FORMATS:
        raise DataError(f"format is {form!r}", "auto, " + ", ".join(sorted({*FORMATS, snapshots.FORMAT})))
    return FORMATS[form].layout(folder, dict(columns or {}))


def _is(form: Format, folder: Path) -> bool:
    try:
        return form.detect(folder)
    except OSError as error:
        raise DataError(f"{folder} cannot be read ({error.strerror})", "a file or folder") from None
