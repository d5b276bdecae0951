"""What is known of items without any label: release year and genres."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

YEAR = re.compile(r"\((\d{4})\)\s*$")


@dataclass(frozen=True)
class ItemContent:
    """Tables of I+1 rows; row 0 is padding."""

    year: npt.NDArray[np.int64]
    """(I+1,) the release year, 0 where the title names none."""
    genres: npt.NDArray[np.float64]
    """(I+1, G) one-hot genres scaled to length 1, so that a product of two rows is their cosine; 0 where unknown."""

    @property
    def decade(self) -> npt.NDArray[np.int64]:
        """(I+1,) 0 for an unknown year, else 1 + the place of the decade counted from 1800."""
        return np.where(self.year > 0, np.clip(self.year // 10 - 179, 1, 40), 0)

    @property
    def years_from_1985(self) -> npt.NDArray[np.float64]:
        """(I+1,) release year in units of 15 years from 1985; 0 where unknown."""
        return np.where(self.year > 0, (self.year - 1985) / 15.0, 0.0)


def item_content(titles: Sequence[str], keywords: Sequence[str]) -> ItemContent:
    """The content of items 1..I.

    Args:
        titles: (I,) titles; a year in brackets at the end is the release year.
        keywords: (I,) comma-separated genres or keywords; empty where unknown.
    """
    matches = [YEAR.search(title) for title in titles]
    year = np.array([0, *(int(match.group(1)) if match else 0 for match in matches)], np.int64)
    words = [[word.strip() for word in text.split(",") if word.strip()] for text in keywords]
    known = {word: place for place, word in enumerate(sorted({word for found in words for word in found}))}
    genres = np.zeros((len(titles) + 1, len(known)))
    for item, found in enumerate(words, start=1):
        genres[item, [known[word] for word in found]] = 1.0
    length = np.sqrt(genres.sum(axis=1, keepdims=True))
    return ItemContent(year, np.divide(genres, length, out=genres, where=length > 0))
