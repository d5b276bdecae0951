"""The ladder: every rung on the same rows, with user-cluster intervals and paired differences against a floor.

`evaluate_ladder` gives one JSON-able dictionary; `pick_test_rows` the fixed rows that it is computed on. A figure that
the rows leave undefined (one class only, no user with both classes) is None, never NaN.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from thinkrec_core.errors import DataError
from thinkrec_core.evaluation.auc import auc, uauc, user_auc
from thinkrec_core.evaluation.bootstrap import Ratio, WeightedAUC, interval, p_value, user_weights
from thinkrec_core.evaluation.calibration import accuracy, brier, calibration_error, row_log_loss
from thinkrec_core.evaluation.checks import FloatArray, IntArray, checked_labels, checked_scores, checked_users
from thinkrec_core.evaluation.ranking import user_ranking

K = 5
"""Cut-off of the ranking figures that carry an interval."""
COUNTS: frozenset[str] = frozenset({"popularity"})
"""Rungs whose scores are counts: sigmoid(score) means nothing, so probability figures are None."""
PRIOR = "encoder"
"""The rung whose logit may be part of the LLM rungs' score: differences to it show what the LLM adds."""

Figure = Callable[[FloatArray], FloatArray]


def evaluate_ladder(
    users: npt.ArrayLike,
    labels: npt.ArrayLike,
    not_cold: npt.ArrayLike,
    scores: Mapping[str, npt.ArrayLike],
    floor: str,
    resamples: int,
    generator: np.random.Generator,
    counts: Collection[str] = COUNTS,
) -> dict[str, Any]:
    """All figures of all rungs as a JSON-able dictionary.

    Keys: rows, users, users_uauc (users that count for UAUC), users_dropped, positives, warm_rows, cold_rows,
    resamples, floor, and rungs: per rung auc, uauc, ndcg@5, map@5, hr@5, mrr@5 and log_loss, each with an interval
    <figure>_ci of [low, high]; brier, accuracy, ece; warm and cold with rows, auc, uauc; versus_floor, and versus_encoder where
    that rung was scored, with difference, ci and p of auc and uauc; resamples_undefined, the draws that held one class only.

    Args:
        users: (R,) integer ids.
        labels: (R,) 0 or 1.
        not_cold: (R,) True where user and item both occur in train.
        scores: (R,) per rung; logits, except for the rungs in `counts`.
        floor: the rung that differences are taken against.
        resamples: user-cluster bootstrap draws; the same for all rungs, so differences are paired.

    Raises:
        DataError: no rows, no rungs, unequal lengths, a score that is not finite, another label, or an unknown floor.
    """
    y = checked_labels(labels)
    owner = checked_users(users, len(y))
    warm = np.asarray(not_cold, dtype=bool)
    if warm.shape != y.shape:
        raise DataError(f"not_cold has shape {warm.shape}", f"({len(y)},)")
    checked = {name: checked_scores(values, len(y), f"score_{name}") for name, values in scores.items()}
    if floor not in checked:
        raise DataError(f"floor {floor} is not among the rungs {sorted(checked)}", "a rung that has scores")

    distinct, inverse = np.unique(owner, return_inverse=True)
    figures = {name: _figures(inverse, s, y, name not in counts) for name, s in checked.items()}
    draws = _draw(figures, len(distinct), len(y), resamples, generator)

    dropped = user_auc(owner, checked[floor], y).dropped
    rungs: dict[str, Any] = {}
    for name, s in checked.items():
        likely = name not in counts
        rung: dict[str, Any] = {"auc": auc(s, y), "uauc": uauc(owner, s, y), "log_loss": None}
        rung |= {figure: _value(f) for figure, f in figures[name].items() if isinstance(f, Ratio) and figure != "uauc"}
        for figure, of in (("brier", brier), ("accuracy", accuracy), ("ece", calibration_error)):
            rung[figure] = of(s, y) if likely else None
        rung |= {f"{figure}_ci": interval(values) for figure, values in draws[name].items()}
        rung.setdefault("log_loss_ci", None)
        rung["resamples_undefined"] = int(np.isnan(draws[name]["auc"]).sum())
        rung["warm"], rung["cold"] = _part(owner, s, y, warm), _part(owner, s, y, ~warm)
        rungs[name] = rung
    references = {"versus_floor": floor} | ({"versus_encoder": PRIOR} if PRIOR in checked else {})
    for name, rung in rungs.items():
        for key, other in references.items():
            rung[key] = {
                figure: _versus(rung[figure], rungs[other][figure], draws[name][figure] - draws[other][figure])
                for figure in ("auc", "uauc")
            }
    return {
        "rows": len(y),
        "users": len(distinct),
        "users_uauc": len(distinct) - dropped,
        "users_dropped": dropped,
        "positives": int(y.sum()),
        "warm_rows": int(warm.sum()),
        "cold_rows": int((~warm).sum()),
        "resamples": resamples,
        "floor": floor,
        "rungs": rungs,
    }


def pick_test_rows(users: npt.ArrayLike, about: int | None, generator: np.random.Generator) -> IntArray:
    """Ascending row indices of whole users drawn in random order until there are `about` rows; all rows for None.

    Whole users keep each user's own ranking and AUC complete. The last user drawn is kept whole, so there may be a few
    rows more than asked for; where the data has fewer rows, all are taken.

    Args:
        users: (R,) user of each row.
        about: the number of rows wanted.
    """
    owner = np.asarray(users)
    distinct, inverse, count = np.unique(owner, return_inverse=True, return_counts=True)
    if about is None or about >= len(owner):
        return np.arange(len(owner), dtype=np.int64)
    order = generator.permutation(len(distinct))
    needed = int(np.searchsorted(np.cumsum(count[order]), about)) + 1
    chosen = np.zeros(len(distinct), dtype=bool)
    chosen[order[:needed]] = True
    return np.flatnonzero(chosen[inverse]).astype(np.int64)


def _figures(user: IntArray, scores: FloatArray, labels: IntArray, likely: bool) -> dict[str, Figure]:
    """The figures that carry an interval, as functions of user weights; `user` counts from 0."""
    users = int(user.max()) + 1
    each = user_auc(user, scores, labels)
    ranks = user_ranking(user, scores, labels, K)
    ranked = np.zeros(users)
    ranked[ranks.users] = 1.0
    figures: dict[str, Figure] = {
        "auc": WeightedAUC(user, scores, labels),
        "uauc": Ratio(np.nan_to_num(each.auc), each.defined.astype(np.float64)),
    }
    for name in ("ndcg", "map", "hr", "mrr"):
        values = np.zeros(users)
        values[ranks.users] = getattr(ranks, name)
        figures[f"{name}@{K}"] = Ratio(values, ranked)
    if likely:
        loss = np.bincount(user, weights=row_log_loss(scores, labels), minlength=users)
        rows = np.bincount(user, minlength=users)
        figures["log_loss"] = Ratio(loss.astype(np.float64), rows.astype(np.float64))
    return figures


def _draw(
    figures: Mapping[str, Mapping[str, Figure]],
    users: int,
    rows: int,
    resamples: int,
    generator: np.random.Generator,
) -> dict[str, dict[str, FloatArray]]:
    parts: dict[str, dict[str, list[FloatArray]]] = {n: {figure: [] for figure in of} for n, of in figures.items()}
    for weights in user_weights(users, rows, resamples, generator):
        for name, of in figures.items():
            for figure, function in of.items():
                parts[name][figure].append(function(weights))
    return {name: {figure: np.concatenate(p) for figure, p in of.items()} for name, of in parts.items()}


def _value(figure: Ratio) -> float | None:
    return None if np.isnan(figure.value) else figure.value


def _part(users: IntArray, scores: FloatArray, labels: IntArray, mask: npt.NDArray[np.bool_]) -> dict[str, Any]:
    if not mask.any():
        return {"rows": 0, "auc": None, "uauc": None}
    part = scores[mask], labels[mask]
    return {"rows": int(mask.sum()), "auc": auc(*part), "uauc": uauc(users[mask], *part)}


def _versus(value: float | None, floor: float | None, differences: FloatArray) -> dict[str, Any]:
    difference = None if value is None or floor is None else value - floor
    return {"difference": difference, "ci": interval(differences), "p": p_value(differences)}
