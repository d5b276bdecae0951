"""MovieTweetings: ratings.dat and movies.dat with `::`, ratings 0 to 10, IMDb numbers with leading zeros as item ids."""

from __future__ import annotations

from pathlib import Path

from storage.readers import movielens
from storage.readers.layout import Layout
from thinkrec_core.errors import DataError


def detect(source: Path) -> bool:
    """Whether the first movie of `source` is named by an IMDb number of seven digits or more."""
    movies = source / "movies.dat"
    if not movies.is_file() or not (source / "ratings.dat").is_file():
        return False
    with movies.open("rb") as handle:
        first = handle.readline(100).split(b"::")[0]
    return first.isdigit() and len(first) >= 7


def layout(source: Path, columns: dict[str, str] | None = None) -> Layout:
    """The two files of `source`.

    Raises:
        DataError: one is missing.
    """
    if not (source / "ratings.dat").is_file():
        raise DataError(f"{source} has no ratings.dat", "ratings.dat and movies.dat", "check the folder")
    return movielens.double_colon(source, (0, 10))
