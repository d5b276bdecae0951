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
from thinkrec_core.evaluation.bootstrap import Ratio, auc_figures, interval, p_value, user_weights
from thinkrec_core.evaluation.calibration import accuracy, brier, calibration_error, row_log_loss
from thinkrec_core.evaluation.checks import FloatArray, IntArray, checked_labels, checked_scores, checked_users
from thinkrec_core.evaluation.ranking import CUTOFFS, ranking, user_ranking

K = 5
"""Cut-off of the ranking figures that carry an interval."""
COUNTS: frozenset[str] = frozenset({"popularity"})
"""Rungs whose scores are counts: sigmoid(score) means nothing, so probability figures are None."""
PRIOR = "encoder"
"""The rung whose logit may be part of the LLM rungs' score: differences to it show what the LLM adds."""

HISTORY_PARTS = (("0", 0, 1), ("1-9", 1, 10), ("10-49", 10, 50), ("50+", 50, 1 << 62))
"""Lengths of a row's history by which figures are told apart: label, from, up to."""

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
    history: npt.ArrayLike | None = None,
) -> dict[str, Any]:
    """All figures of all rungs as a JSON-able dictionary.

    Keys: rows, users, users_uauc (users that count for UAUC), users_dropped, positives, warm_rows, cold_rows,
    resamples, floor, and rungs: per rung auc, uauc, ndcg@5, map@5, hr@5, mrr@5 and log_loss, each with an interval
    <figure>_ci of [low, high]; brier, accuracy, ece; warm and cold with rows, auc, uauc; versus_floor, and versus_encoder where
    that rung was scored, with difference, ci and p of auc and uauc; resamples_undefined, the draws that held one class only;
    the ranking figures at 1, 3 and 10 and uauc_by_rows, the mean of user AUCs weighted by their rows; by_history, where
    `history` is given. A rung with several score vectors has the means of its figures, and seeds with each auc and uauc.

    Args:
        users: (R,) integer ids.
        labels: (R,) 0 or 1.
        not_cold: (R,) True where user and item both occur in train.
        scores: (R,) per rung, or (S, R) for S fits; logits, except for the rungs in `counts`.
        floor: the rung that differences are taken against.
        resamples: user-cluster bootstrap draws; the same for all rungs, so differences are paired.
        history: (R,) history length of each row.

    Raises:
        DataError: no rows, no rungs, unequal lengths, a score that is not finite, another label, or an unknown floor.
    """
    y = checked_labels(labels)
    owner = checked_users(users, len(y))
    warm = np.asarray(not_cold, dtype=bool)
    if warm.shape != y.shape:
        raise DataError(f"not_cold has shape {warm.shape}", f"({len(y)},)")
    checked = {name: _fits(name, values, len(y)) for name, values in scores.items()}
    if floor not in checked:
        raise DataError(f"floor {floor} is not among the rungs {sorted(checked)}", "a rung that has scores")
    lengths = None if history is None else np.asarray(history)
    if lengths is not None and lengths.shape != y.shape:
        raise DataError(f"history has shape {lengths.shape}", f"({len(y)},)")

    distinct, inverse = np.unique(owner, return_inverse=True)
    figures = {name: [_figures(inverse, s, y, name not in counts) for s in fits] for name, fits in checked.items()}
    draws = _draw(figures, len(distinct), len(y), resamples, generator)

    dropped = user_auc(owner, checked[floor][0], y).dropped
    rungs: dict[str, Any] = {}
    for name, fits in checked.items():
        points = [
            _points(owner, s, y, warm, lengths, of, name not in counts)
            for s, of in zip(fits, figures[name], strict=True)
        ]
        rung = _averaged(points)
        if len(fits) > 1:
            rung["seeds"] = {figure: [point[figure] for point in points] for figure in ("auc", "uauc")}
        rung |= {f"{figure}_ci": interval(values) for figure, values in draws[name].items()}
        rung.setdefault("log_loss_ci", None)
        rung["resamples_undefined"] = int(np.isnan(draws[name]["auc"]).sum())
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
    ranks = user_ranking(user, scores, labels, K)
    ranked = np.zeros(users)
    ranked[ranks.users] = 1.0
    figures: dict[str, Figure] = {**auc_figures(user, scores, labels)}
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
    figures: Mapping[str, list[dict[str, Figure]]],
    users: int,
    rows: int,
    resamples: int,
    generator: np.random.Generator,
) -> dict[str, dict[str, FloatArray]]:
    parts: dict[str, dict[str, list[FloatArray]]] = {n: {key: [] for key in fits[0]} for n, fits in figures.items()}
    for weights in user_weights(users, rows, resamples, generator):
        for name, fits in figures.items():
            for figure in fits[0]:
                parts[name][figure].append(np.mean([of[figure](weights) for of in fits], axis=0))
    return {name: {figure: np.concatenate(p) for figure, p in of.items()} for name, of in parts.items()}


def _fits(name: str, values: npt.ArrayLike, rows: int) -> list[FloatArray]:
    """The score vectors of a rung, one per fit."""
    given = np.asarray(values, dtype=np.float64)
    return [checked_scores(fit, rows, f"score_{name}") for fit in (given if given.ndim == 2 else [given])]


def _points(
    owner: IntArray,
    scores: FloatArray,
    labels: IntArray,
    warm: npt.NDArray[np.bool_],
    lengths: npt.NDArray[Any] | None,
    figures: Mapping[str, Figure],
    likely: bool,
) -> dict[str, Any]:
    """The figures of one fit without intervals."""
    each = user_auc(owner, scores, labels)
    _, rows = np.unique(owner, return_counts=True)
    weight = rows[each.defined]
    point: dict[str, Any] = {
        "auc": auc(scores, labels),
        "uauc": each.mean,
        "uauc_by_rows": float(np.average(each.auc[each.defined], weights=weight)) if len(weight) else None,
        "log_loss": None,
    }
    point |= {figure: _value(f) for figure, f in figures.items() if isinstance(f, Ratio) and figure != "uauc"}
    point |= ranking(owner, scores, labels, [k for k in CUTOFFS if k != K])
    for figure, of in (("brier", brier), ("accuracy", accuracy), ("ece", calibration_error)):
        point[figure] = of(scores, labels) if likely else None
    point["warm"], point["cold"] = _part(owner, scores, labels, warm), _part(owner, scores, labels, ~warm)
    if lengths is not None:
        point["by_history"] = {
            label: _part(owner, scores, labels, (low <= lengths) & (lengths < high))
            for label, low, high in HISTORY_PARTS
        }
    return point


def _averaged(points: list[Any]) -> Any:
    """The mean of equally shaped nested figures; None where one of them is undefined."""
    first = points[0]
    if isinstance(first, dict):
        return {key: _averaged([point[key] for point in points]) for key in first}
    if len(points) == 1 or isinstance(first, int):
        return first
    return None if None in points else float(np.mean(points))


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
