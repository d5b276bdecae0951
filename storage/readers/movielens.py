"""MovieLens as GroupLens publishes it: 100K (u.data), 1M and 10M (ratings.dat, `::`), 20M to 32M and latest (ratings.csv)."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from storage.readers.files import Part
from storage.readers.layout import GENRES, Layout
from storage.readers.raw import ITEM, RATING, TIMESTAMP, TITLE, USER
from thinkrec_core.errors import DataError

RATINGS = {USER: ("userId",), ITEM: ("movieId",), RATING: ("rating",), TIMESTAMP: ("timestamp",)}
MOVIES = {ITEM: ("movieId",), TITLE: ("title",), GENRES: ("genres",)}
COLUMNS = ("userId", "movieId", "rating", "timestamp")
FLAGS = (
    "unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary", "Drama", "Fantasy",
    "Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller", "War", "Western",
)  # fmt: skip
"""Genre columns of u.item, in its order."""


def detect(source: Path) -> bool:
    """Whether `source` holds one of the three forms."""
    pairs = (("u.data", "u.item"), ("ratings.dat", "movies.dat"), ("ratings.csv", "movies.csv"))
    return any((source / one).is_file() and (source / two).is_file() for one, two in pairs)


def layout(source: Path, columns: dict[str, str] | None = None) -> Layout:
    """The files of `source`, newest form first.

    Raises:
        DataError: none of the forms is there.
    """
    if (source / "ratings.csv").is_file():
        return Layout(Part(source / "ratings.csv", RATINGS), Part(source / "movies.csv", MOVIES), (0.5, 5))
    if (source / "ratings.dat").is_file():
        return double_colon(source, (0.5, 5))
    if (source / "u.data").is_file():
        ratings = Part(source / "u.data", RATINGS, delimiter="\t", names=COLUMNS, quoted=False)
        names = ("movieId", "title", "released", "video", "url", *FLAGS)
        return Layout(
            ratings, Part(source / "u.item", MOVIES, delimiter="|", names=names, quoted=False), (1, 5),
            finish_items=_genres_of_flags,
        )  # fmt: skip
    raise DataError(f"{source} holds no MovieLens data", "u.data, ratings.dat or ratings.csv", "check the folder")


def double_colon(source: Path, scale: tuple[float, float]) -> Layout:
    """ratings.dat and movies.dat, whose columns stand between `::`."""
    ratings = Part(source / "ratings.dat", RATINGS, delimiter="::", names=COLUMNS, quoted=False)
    movies = Part(source / "movies.dat", MOVIES, delimiter="::", names=("movieId", "title", "genres"), quoted=False)
    return Layout(ratings, movies, scale)


def _genres_of_flags(table: pa.Table) -> pa.Table:
    flags = [table.column(name).to_pylist() for name in FLAGS]
    genres = [
        "|".join(name for name, flag in zip(FLAGS, row, strict=True) if flag == "1" and name != "unknown")
        for row in zip(*flags, strict=True)
    ]
    return table.append_column(GENRES, pa.array(genres, pa.string()))
