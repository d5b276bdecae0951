"""HR, NDCG, MAP and MRR at k: each user's own test rows ranked by score, ties by their expected value.

Rows of equal score come in random order; what is reported is the mean over all orders, computed exactly. Position r of
a user lies in a group of t equal scores with p liked rows among them. Before that group the user has A liked rows, and
r is the j-th position inside it. Then

    P(r is liked)                     = p / t
    E[liked at r * liked up to r]     = (p / t) * (A + 1 + (j - 1)(p - 1) / (t - 1))
    P(r is liked | none liked before) = min(1, p / (t - j + 1))

and only the first k positions matter, so the work is (users, k) and never grows with the size of a tie.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from thinkrec_core.evaluation.checks import FloatArray, IntArray, checked_labels, checked_scores, checked_users

CUTOFFS = (1, 3, 5, 10)


@dataclass(frozen=True)
class UserRanking:
    """The figures at one k of each user with at least two rows."""

    users: IntArray
    """(U,) ascending."""
    hr: FloatArray
    """(U,) chance of a liked row among the first k."""
    ndcg: FloatArray
    """(U,) discounted gain with gain = label over the best possible; 0 for users who like nothing."""
    map: FloatArray
    """(U,) sum over the first k of precision at each liked row, over the user's number of liked rows; 0 without any."""
    mrr: FloatArray
    """(U,) 1 / rank of the first liked row, 0 if it is beyond k."""


def user_ranking(users: npt.ArrayLike, scores: npt.ArrayLike, labels: npt.ArrayLike, k: int) -> UserRanking:
    """The ranking figures at `k` of each user with at least two rows.

    Source: spec, evaluation. NDCG's gain is the label; MAP divides by all liked rows of the user, also those beyond k.

    Args:
        users: (R,) integer ids in any order.
        scores: (R,) finite, higher ranks first.
        labels: (R,) 0 or 1.
        k: cut-off, at least 1.

    Raises:
        DataError: no rows, unequal lengths, a score that is not finite, another label.
        ValueError: k below 1.
    """
    if k < 1:
        raise ValueError(f"k is {k}; expected at least 1")
    y = checked_labels(labels)
    s, owner = checked_scores(scores, len(y)), checked_users(users, len(y))
    order = np.lexsort((-s, owner))
    owner, s, y = owner[order], s[order], y[order]

    distinct, start, count = np.unique(owner, return_index=True, return_counts=True)
    keep = count >= 2
    distinct, start, count = distinct[keep], start[keep], count[keep]

    tie_start = np.flatnonzero(np.r_[True, (np.diff(owner) != 0) | (np.diff(s) != 0)])
    tie_size = np.diff(np.r_[tie_start, len(y)])
    tie_liked = np.add.reduceat(y, tie_start)
    liked_before = np.cumsum(y) - y

    position = np.arange(k)
    inside = position < count[:, None]
    row = np.minimum(start[:, None] + position, len(y) - 1)  # (U, k); positions past the user's rows are masked
    tie = np.searchsorted(tie_start, row, side="right") - 1
    t, p = tie_size[tie].astype(float), tie_liked[tie].astype(float)
    j = row - tie_start[tie] + 1
    liked_above = liked_before[tie_start[tie]] - liked_before[start][:, None]

    rank = position + 1.0
    discount = 1.0 / np.log2(rank + 1.0)
    liked = np.where(inside, p / t, 0.0)
    total = _liked_per_user(y, start, count)

    ideal = np.r_[0.0, np.cumsum(discount)][np.minimum(total, k)]
    ndcg = _ratio(liked @ discount, ideal)

    pairs = liked_above + 1.0 + (j - 1) * (p - 1.0) / np.maximum(t - 1.0, 1.0)
    average_precision = _ratio((liked * pairs) @ (1.0 / rank), total)

    hazard: FloatArray = np.where(inside, np.minimum(1.0, p / (t - j + 1.0)), 0.0)
    none_yet = np.cumprod(1.0 - hazard, axis=1, dtype=np.float64)
    first_here = np.diff(1.0 - none_yet, axis=1, prepend=0.0)
    return UserRanking(distinct, 1.0 - none_yet[:, -1], ndcg, average_precision, first_here @ (1.0 / rank))


def ranking(
    users: npt.ArrayLike, scores: npt.ArrayLike, labels: npt.ArrayLike, cutoffs: Sequence[int] = CUTOFFS
) -> dict[str, float | None]:
    """The means over users as {"hr@1": ..., "ndcg@1": ..., "map@1": ..., "mrr@1": ..., "hr@3": ...}.

    None where no user has two rows. Arguments as in `user_ranking`.
    """
    figures: dict[str, float | None] = {}
    for k in cutoffs:
        each = user_ranking(users, scores, labels, k)
        for name in ("hr", "ndcg", "map", "mrr"):
            values = getattr(each, name)
            figures[f"{name}@{k}"] = float(values.mean()) if values.size else None
    return figures


def _liked_per_user(labels: IntArray, start: IntArray, count: IntArray) -> IntArray:
    total = np.r_[0, np.cumsum(labels)]
    return total[start + count] - total[start]


def _ratio(numerator: FloatArray, denominator: FloatArray | IntArray) -> FloatArray:
    return np.divide(numerator, denominator, out=np.zeros(len(numerator)), where=denominator > 0)
