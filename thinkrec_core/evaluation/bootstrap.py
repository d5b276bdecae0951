"""User-cluster bootstrap: intervals and paired differences under users drawn again with replacement.

Rows of one user are not independent, so whole users are drawn: a resample is one whole number per user, how often that
user was drawn. Every figure is a function of these weights, either a ratio of weighted sums over users (UAUC, NDCG,
MAP, log-loss) or the weighted AUC, so no row is ever copied. All rungs see the same resamples, which pairs their
differences.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from thinkrec_core.evaluation.auc import user_auc
from thinkrec_core.evaluation.checks import FloatArray, IntArray

BLOCK_CELLS = 2_000_000
"""Resamples are worked on in blocks of about this many (resample, row) cells, which bounds the memory."""


def user_weights(users: int, rows: int, resamples: int, generator: np.random.Generator) -> Iterator[FloatArray]:
    """Blocks (b, users) of draws per user: each resample draws `users` users; the blocks sum to `resamples`."""
    block = max(1, BLOCK_CELLS // max(users, rows, 1))
    for start in range(0, resamples, block):
        size = min(block, resamples - start)
        # Counting drawn users costs a tenth of drawing the counts, which a multinomial does category by category.
        drawn = generator.integers(0, users, size=(size, users)) + users * np.arange(size)[:, None]
        yield np.bincount(drawn.ravel(), minlength=size * users).reshape(size, users).astype(np.float64)


@dataclass(frozen=True)
class Ratio:
    """A figure of the form sum_u w_u numerator_u / sum_u w_u denominator_u.

    A mean over users has their values as numerator and 1 (0 for dropped users) as denominator; a mean over rows has
    their sums and their numbers of rows.
    """

    numerator: FloatArray
    """(U,)."""
    denominator: FloatArray
    """(U,)."""

    @property
    def value(self) -> float:
        """The figure itself, every user counted once; NaN if the denominator is 0."""
        return float(self(np.ones((1, len(self.numerator))))[0])

    def __call__(self, weights_BU: FloatArray) -> FloatArray:
        """(B,) the figure under each resample; NaN where its denominator is 0."""
        return _divide(weights_BU @ self.numerator, weights_BU @ self.denominator)


class WeightedAUC:
    """The AUC when every row counts as often as its user was drawn.

    Formula: sum over pairs (i liked, j not) of w_i w_j ([s_i > s_j] + [s_i = s_j] / 2) / (sum_i w_i * sum_j w_j).

    Args:
        user: (R,) index 0..U-1 of the row's user.
        scores: (R,) finite.
        labels: (R,) 0 or 1.
    """

    def __init__(self, user: IntArray, scores: FloatArray, labels: IntArray) -> None:
        order = np.argsort(scores, kind="stable")
        liked = labels[order] == 1
        ordered, owner = scores[order], user[order]
        self._liked, self._others = owner[liked], owner[~liked]
        below = [np.searchsorted(ordered[~liked], ordered[liked], side) for side in ("left", "right")]
        # Of the rows not liked, how many score less, and how many at most as much: the two differ where scores tie.
        self._less, self._at_most = below[0], None if np.array_equal(*below) else below[1]

    def __call__(self, weights_BU: FloatArray) -> FloatArray:
        """(B,) the AUC under each resample; NaN where it holds one class only."""
        liked_BP = np.take(weights_BU, self._liked, axis=1)
        upto_BN = np.zeros((len(weights_BU), len(self._others) + 1))
        np.cumsum(np.take(weights_BU, self._others, axis=1), axis=1, out=upto_BN[:, 1:])
        beaten_BP = np.take(upto_BN, self._less, axis=1)
        if self._at_most is not None:
            beaten_BP = (beaten_BP + np.take(upto_BN, self._at_most, axis=1)) / 2
        wins = np.einsum("bp,bp->b", liked_BP, beaten_BP)
        return _divide(wins, liked_BP.sum(axis=1) * upto_BN[:, -1])


def auc_figures(user: IntArray, scores: FloatArray, labels: IntArray) -> dict[str, Ratio | WeightedAUC]:
    """auc and uauc as functions of user weights.

    Args:
        user: (R,) index 0..U-1 of the row's user.
        scores: (R,) finite.
        labels: (R,) 0 or 1.
    """
    each = user_auc(user, scores, labels)
    return {
        "auc": WeightedAUC(user, scores, labels),
        "uauc": Ratio(np.nan_to_num(each.auc), each.defined.astype(np.float64)),
    }


def interval(draws: npt.ArrayLike, level: float = 0.95) -> list[float] | None:
    """[low, high], the percentile interval of the defined draws; None if fewer than half of them are defined."""
    array = np.asarray(draws, dtype=np.float64)
    defined = array[~np.isnan(array)]
    if 2 * defined.size < array.size or not defined.size:
        return None
    tail = (1 - level) / 2
    return [float(bound) for bound in np.quantile(defined, [tail, 1 - tail])]


def p_value(differences: npt.ArrayLike) -> float | None:
    """The two-sided bootstrap p-value of "no difference"; None if no draw is defined.

    Formula: 2 min(1 + #{d <= 0}, 1 + #{d >= 0}) / (draws + 1), at most 1. It can not fall below 2 / (draws + 1).
    """
    array = np.asarray(differences, dtype=np.float64)
    defined = array[~np.isnan(array)]
    if not defined.size:
        return None
    below, above = 1 + int((defined <= 0).sum()), 1 + int((defined >= 0).sum())
    return min(1.0, 2.0 * min(below, above) / (defined.size + 1))


def _divide(numerator: FloatArray, denominator: FloatArray) -> FloatArray:
    return np.divide(numerator, denominator, out=np.full(len(numerator), np.nan), where=denominator > 0)
