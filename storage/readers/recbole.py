"""RecBole atomic files: NAME.inter and NAME.item, tab-separated, with a header of name:type."""

from __future__ import annotations

from pathlib import Path

from storage.readers.files import Part
from storage.readers.layout import GENRES, Layout
from storage.readers.raw import ITEM, LABEL, RATING, TIMESTAMP, TITLE, USER
from thinkrec_core.errors import DataError

INTER: dict[str, tuple[str, ...]] = {
    USER: ("user_id",),
    ITEM: ("item_id",),
    RATING: ("rating", "stars"),
    LABEL: ("label",),
    TIMESTAMP: ("timestamp",),
}
TEXTS = {
    ITEM: ("item_id",),
    TITLE: ("title", "movie_title", "item_name", "name"),
    GENRES: ("genre", "genres", "class", "categories"),
}


def detect(source: Path) -> bool:
    """Whether `source` holds one .inter and one .item file."""
    return len(list(source.glob("*.inter"))) == len(list(source.glob("*.item"))) == 1


def layout(source: Path, columns: dict[str, str] | None = None) -> Layout:
    """The two files of `source`.

    Raises:
        DataError: not exactly one of each.
    """
    if not detect(source):
        raise DataError(f"{source} does not hold one .inter and one .item file", "RecBole atomic files")
    inter, item = next(source.glob("*.inter")), next(source.glob("*.item"))
    return Layout(_part(inter, INTER), _part(item, TEXTS))


def _part(path: Path, names: dict[str, tuple[str, ...]]) -> Part:
    return Part(path, names, delimiter="\t", typed_header=True, quoted=False)
