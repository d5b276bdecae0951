"""The Yelp academic data set: yelp_academic_dataset_review.json and _business.json, one JSON object a line."""

from __future__ import annotations

from pathlib import Path

from storage.readers.files import Part
from storage.readers.layout import DATE, Layout
from storage.readers.raw import ITEM, KEYWORDS, RATING, TIMESTAMP, TITLE, USER
from thinkrec_core.errors import DataError

PREFIX = "yelp_academic_dataset_"
REVIEW = {USER: ("user_id",), ITEM: ("business_id",), RATING: ("stars",), TIMESTAMP: (), DATE: ("date",)}
BUSINESS = {ITEM: ("business_id",), TITLE: ("name",), KEYWORDS: ("categories",)}


def detect(source: Path) -> bool:
    """Whether `source` holds the two files."""
    return all((source / f"{PREFIX}{name}.json").is_file() for name in ("review", "business"))


def layout(source: Path, columns: dict[str, str] | None = None) -> Layout:
    """The two files of `source`.

    Raises:
        DataError: one is missing.
    """
    if not detect(source):
        raise DataError(f"{source} is incomplete", f"{PREFIX}review.json and {PREFIX}business.json")
    review, business = (source / f"{PREFIX}{name}.json" for name in ("review", "business"))
    return Layout(
        Part(review, REVIEW, kind="jsonl"), Part(business, BUSINESS, kind="jsonl"), (1, 5), lenient_items=True
    )
