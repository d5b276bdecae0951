"""Log-loss, Brier score, calibration error and accuracy of sigmoid(score) read as the chance of a like."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from thinkrec_core.evaluation.checks import FloatArray, IntArray, checked_labels, checked_scores


def row_log_loss(scores: FloatArray, labels: IntArray) -> FloatArray:
    """(R,) -log p(label) with p = sigmoid(score), in nats, from the logit so that large scores stay finite."""
    return np.logaddexp(0.0, scores) - labels * scores


def probability(scores: FloatArray) -> FloatArray:
    """(R,) sigmoid(score), without overflow."""
    return np.exp(-np.logaddexp(0.0, -scores))


def log_loss(scores: npt.ArrayLike, labels: npt.ArrayLike) -> float:
    """The mean of -log p(label), in nats; ln 2 for scores of zero.

    Raises:
        DataError: no rows, unequal lengths, a score that is not finite, another label.
    """
    y = checked_labels(labels)
    return float(row_log_loss(checked_scores(scores, len(y)), y).mean())


def brier(scores: npt.ArrayLike, labels: npt.ArrayLike) -> float:
    """The mean of (p - label)^2. Raises as `log_loss`."""
    y = checked_labels(labels)
    return float(((probability(checked_scores(scores, len(y))) - y) ** 2).mean())


def accuracy(scores: npt.ArrayLike, labels: npt.ArrayLike) -> float:
    """The share of rows with (p > .5) == label; p = .5 counts as No. Raises as `log_loss`."""
    y = checked_labels(labels)
    return float(((checked_scores(scores, len(y)) > 0) == y).mean())


def calibration_error(scores: npt.ArrayLike, labels: npt.ArrayLike, bins: int = 10) -> float:
    """The expected calibration error: mean over rows of |mean p - share of likes| in the row's bin.

    Formula: sum over bins of (rows in bin / rows) * |mean p - mean label|, over `bins` bins of equal width on [0, 1].
    Raises as `log_loss`.
    """
    y = checked_labels(labels)
    p = probability(checked_scores(scores, len(y)))
    index = np.minimum((p * bins).astype(np.int64), bins - 1)
    gap = np.bincount(index, weights=p - y, minlength=bins)
    return float(np.abs(gap).sum() / len(y))
