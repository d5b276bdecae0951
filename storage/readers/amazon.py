"""Amazon reviews of 2014, 2018 and 2023: JSON lines (.gz too), with their metadata beside them.

The metadata file is the one whose name begins with `meta`; the other .json, .jsonl (.gz) file holds the reviews.
"""

from __future__ import annotations

import gzip
from pathlib import Path

from storage.readers.files import Part
from storage.readers.layout import GENRES, Layout
from storage.readers.raw import DESCRIPTION, ITEM, RATING, TIMESTAMP, TITLE, USER
from thinkrec_core.errors import DataError

OLD = {USER: ("reviewerID",), ITEM: ("asin",), RATING: ("overall",), TIMESTAMP: ("unixReviewTime",)}
NEW = {USER: ("user_id",), ITEM: ("parent_asin", "asin"), RATING: ("rating",), TIMESTAMP: ("timestamp",)}
META = {
    ITEM: ("parent_asin", "asin"),
    TITLE: ("title",),
    GENRES: ("categories", "category", "main_category"),
    DESCRIPTION: ("description",),
}
SUFFIXES = (".json", ".jsonl", ".json.gz", ".jsonl.gz")


def detect(source: Path) -> bool:
    """Whether `source` holds one file of reviews and one of metadata."""
    metadata, reviews = _files(source)
    return len(metadata) == 1 and len(reviews) == 1


def layout(source: Path, columns: dict[str, str] | None = None) -> Layout:
    """The two files of `source`.

    Raises:
        DataError: not exactly one file of each kind.
    """
    metadata, reviews = _files(source)
    if len(metadata) != 1 or len(reviews) != 1:
        raise DataError(
            f"{source} has {len(reviews)} files of reviews and {len(metadata)} of metadata",
            "one .json or .jsonl (.gz) file of each, the metadata's name beginning with meta",
        )
    with reviews[0].open("rb") as handle:
        packed = handle.read(2) == b"\x1f\x8b"
    try:
        with gzip.open(reviews[0]) if packed else reviews[0].open("rb") as handle:
            old = b'"reviewerID"' in handle.readline(2**20)
    except (OSError, EOFError) as error:
        raise DataError(f"{reviews[0].name} cannot be read ({error})", "JSON lines") from None
    interactions = Part(reviews[0], OLD if old else NEW, kind="jsonl", milliseconds=not old)
    return Layout(interactions, Part(metadata[0], META, kind="jsonl"), (1, 5), lenient_items=True)


def _files(source: Path) -> tuple[list[Path], list[Path]]:
    found = sorted(path for path in source.glob("*") if path.name.endswith(SUFFIXES)) if source.is_dir() else []
    metadata = [path for path in found if path.name.lower().startswith("meta")]
    return metadata, [path for path in found if path not in metadata]
