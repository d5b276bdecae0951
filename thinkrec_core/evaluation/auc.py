"""AUC over all rows, and UAUC: the plain mean of each user's own AUC.

AUC is the chance that a random liked row scores above a random disliked one, ties counting one half. One pass over rows
sorted by score gives it for every user at once: a group of equal scores wins against all negatives below it and half of
those inside it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from thinkrec_core.evaluation.checks import FloatArray, IntArray, checked_labels, checked_scores, checked_users


@dataclass(frozen=True)
class UserAUC:
    """Each user's AUC and the mean over those who have one."""

    users: IntArray
    """(U,) the distinct users, ascending."""
    auc: FloatArray
    """(U,) their AUC; NaN where the user's rows are all of one class."""

    @property
    def defined(self) -> npt.NDArray[np.bool_]:
        """(U,) True for users with at least one liked and one disliked row."""
        return ~np.isnan(self.auc)

    @property
    def dropped(self) -> int:
        """Users that the mean leaves out."""
        return int(np.isnan(self.auc).sum())

    @property
    def mean(self) -> float | None:
        """UAUC; None if no user has both classes."""
        return float(self.auc[self.defined].mean()) if self.defined.any() else None


def auc(scores: npt.ArrayLike, labels: npt.ArrayLike) -> float | None:
    """The AUC over all rows; None if only one class occurs.

    Formula: (number of liked-disliked pairs in the right order + ties / 2) / pairs, by midranks.

    Args:
        scores: (R,) finite, higher is liked more.
        labels: (R,) 0 or 1.

    Raises:
        DataError: no rows, unequal lengths, a score that is not finite, another label.
    """
    y = checked_labels(labels)
    return _or_none(_grouped_auc(np.zeros(len(y), dtype=np.int64), checked_scores(scores, len(y)), y, 1)[0])


def user_auc(users: npt.ArrayLike, scores: npt.ArrayLike, labels: npt.ArrayLike) -> UserAUC:
    """The AUC of each user's own rows (spec, evaluation: users need both classes, hence two rows, to count).

    Args:
        users: (R,) integer ids in any order.
        scores: (R,) finite, higher is liked more.
        labels: (R,) 0 or 1.

    Raises:
        DataError: no rows, unequal lengths, a score that is not finite, another label.
    """
    y = checked_labels(labels)
    distinct, inverse = np.unique(checked_users(users, len(y)), return_inverse=True)
    return UserAUC(distinct, _grouped_auc(inverse, checked_scores(scores, len(y)), y, len(distinct)))


def uauc(users: npt.ArrayLike, scores: npt.ArrayLike, labels: npt.ArrayLike) -> float | None:
    """The unweighted mean of the users' AUC; None if no user has both classes. Arguments as in `user_auc`."""
    return user_auc(users, scores, labels).mean


def _grouped_auc(group: IntArray, scores: FloatArray, labels: IntArray, groups: int) -> FloatArray:
    """(groups,) AUC inside each group, NaN where a class is missing."""
    order = np.lexsort((scores, group))
    group, scores, labels = group[order], scores[order], labels[order]
    starts = np.flatnonzero(np.r_[True, (np.diff(group) != 0) | (np.diff(scores) != 0)])
    positives = np.add.reduceat(labels, starts)
    negatives = np.diff(np.r_[starts, len(labels)]) - positives
    owner = group[starts]
    below = np.cumsum(negatives) - negatives
    first = np.searchsorted(owner, np.arange(groups))
    below = below - below[first][owner]
    wins = np.bincount(owner, weights=positives * (below + negatives / 2), minlength=groups)
    liked = np.bincount(group, weights=labels, minlength=groups)
    pairs = liked * (np.bincount(group, minlength=groups) - liked)
    return np.divide(wins, pairs, out=np.full(groups, np.nan), where=pairs > 0)


def _or_none(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
