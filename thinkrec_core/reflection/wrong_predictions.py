"""Which train rows the student got wrong, and which of them are kept for the teacher."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from thinkrec_core.errors import DataError


@dataclass(frozen=True)
class WrongSummary:
    """Counts of one collection; each pair is (gold label 0, gold label 1).

    Attributes:
        scored: rows that the student scored.
        wrong: rows with (sigmoid(s) > .5) != label.
        kept: rows that were kept.
        warning: what a reader of the results must know; empty if nothing.
    """

    scored: tuple[int, int]
    wrong: tuple[int, int]
    kept: tuple[int, int]
    warning: str

    def as_dict(self) -> dict[str, Any]:
        """The counts with their shares, JSON-able."""
        shares = [wrong / scored if scored else None for wrong, scored in zip(self.wrong, self.scored, strict=True)]
        return {**asdict(self), "wrong_share_by_label": shares, "rows": sum(self.kept)}


def select_wrong(
    labels: npt.ArrayLike, logits: npt.ArrayLike, rows: int, generator: np.random.Generator
) -> npt.NDArray[np.int64]:
    """Sorted positions of at most `rows` wrong predictions, half of each gold label where there are enough.

    Wrong is (sigmoid(s) > .5) != label, and sigmoid(s) > .5 is s > 0. Where one label has fewer than half of `rows`, the
    other fills up; an odd row goes to label 0. Under one seed a larger `rows` keeps every position of a smaller one, so
    that an enlarged sample pays its teacher for the new rows alone.

    Args:
        labels: gold labels 0 or 1, shape (N,).
        logits: scores s of the student, shape (N,).
        rows: how many to keep.
        generator: draws the subsample.

    Raises:
        DataError: a score is not a finite number.
    """
    gold, wrong = _wrong(labels, logits)
    negative, positive = np.flatnonzero(wrong & (gold == 0)), np.flatnonzero(wrong & (gold == 1))
    take_positive = min(len(positive), rows // 2)
    take_negative = min(len(negative), rows - take_positive)
    take_positive = min(len(positive), rows - take_negative)
    chosen = [
        generator.permutation(pool)[:size] for pool, size in ((negative, take_negative), (positive, take_positive))
    ]
    return np.sort(np.concatenate(chosen)).astype(np.int64)


def summarise_wrong(labels: npt.ArrayLike, logits: npt.ArrayLike, chosen: npt.NDArray[np.int64]) -> WrongSummary:
    """Counts per gold label, and a warning where only one label, or no row at all, was got wrong."""
    gold, wrong = _wrong(labels, logits)
    kept = _per_label(gold[chosen])
    warning = ""
    if sum(kept) == 0:
        warning = f"no wrong prediction among {len(gold)} scored rows: nothing to reflect on"
    elif 0 in kept:
        only = "disliked" if kept[0] else "liked"
        warning = (
            f"every wrong prediction is about an item that the user {only}: reflections of one verdict teach a bias"
        )
    return WrongSummary(_per_label(gold), _per_label(gold[wrong]), kept, warning)


def _wrong(labels: npt.ArrayLike, logits: npt.ArrayLike) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    gold, scores = np.asarray(labels, dtype=np.int64), np.asarray(logits, dtype=np.float64)
    if gold.shape != scores.shape or gold.ndim != 1:
        raise ValueError(f"labels {gold.shape} and logits {scores.shape} must be two vectors of one length")
    if not np.isfinite(scores).all():
        at = int(np.flatnonzero(~np.isfinite(scores))[0])
        raise DataError(f"score {scores[at]} of row {at}", "finite scores of the student", "check its training")
    return gold, (scores > 0) != (gold == 1)


def _per_label(gold: npt.NDArray[np.int64]) -> tuple[int, int]:
    return int((gold == 0).sum()), int((gold == 1).sum())
