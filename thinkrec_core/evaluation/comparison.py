"""Two sets of scores on the same rows: figures side by side and paired differences under resampled users."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from thinkrec_core.evaluation.auc import auc, uauc
from thinkrec_core.evaluation.bootstrap import auc_figures, interval, p_value, user_weights
from thinkrec_core.evaluation.checks import FloatArray, checked_labels, checked_scores, checked_users

Fits = Sequence[npt.ArrayLike]
"""(R,) scores of each fit of a rung; its figures are means over fits."""


def compare_scores(
    users: npt.ArrayLike,
    labels: npt.ArrayLike,
    pairs: Mapping[str, tuple[Fits, Fits]],
    resamples: int,
    generator: np.random.Generator,
) -> dict[str, Any]:
    """Per pair, for auc and uauc: first, second, difference (second - first), ci (95%, paired by user) and p (two-sided).

    Args:
        users: (R,) integer ids.
        labels: (R,) 0 or 1.
        pairs: name to the fits of both sides.
        resamples: user-cluster bootstrap draws, the same for all pairs.

    Raises:
        DataError: no rows, unequal lengths, a score that is not finite, or another label.
    """
    y = checked_labels(labels)
    owner = checked_users(users, len(y))
    checked = {
        name: tuple([checked_scores(fit, len(y), f"scores of {name}") for fit in side] for side in sides)
        for name, sides in pairs.items()
    }
    distinct, inverse = np.unique(owner, return_inverse=True)
    figures = {
        name: [[auc_figures(inverse, fit, y) for fit in side] for side in sides] for name, sides in checked.items()
    }
    draws: dict[str, dict[str, list[FloatArray]]] = {name: {"auc": [], "uauc": []} for name in pairs}
    for weights in user_weights(len(distinct), len(y), resamples, generator):
        for name, sides in figures.items():
            for figure, collected in draws[name].items():
                first, second = (np.mean([fit[figure](weights) for fit in side], axis=0) for side in sides)
                collected.append(second - first)
    found: dict[str, Any] = {}
    for name, (first, second) in checked.items():
        found[name] = {}
        for figure in ("auc", "uauc"):
            one, other = (_mean(figure, owner, side, y) for side in (first, second))
            differences = np.concatenate(draws[name][figure])
            found[name][figure] = {
                "first": one,
                "second": other,
                "difference": None if one is None or other is None else other - one,
                "ci": interval(differences),
                "p": p_value(differences),
            }
    return found


def _mean(figure: str, users: npt.NDArray[np.int64], fits: list[FloatArray], labels: npt.NDArray[np.int64]) -> Any:
    values = [auc(fit, labels) if figure == "auc" else uauc(users, fit, labels) for fit in fits]
    return None if None in values else float(np.mean([value for value in values if value is not None]))
