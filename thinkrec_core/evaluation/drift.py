"""How far a new window of data is from the one that a model was trained for.

A window is kept as counts in fixed bins, so that a model can carry its own window along without any row of it. Two windows
are compared by the population stability index, psi = sum (p - q) ln(p / q) over bins, half a row added to each count; by
custom below .1 is stable and above .25 is another population.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from thinkrec_core.evaluation.auc import auc, uauc

SHIFTED, DRIFTED = 0.1, 0.25
POWERS = 20
"""Bins of counts: 0, 1, 2-3, 4-7, ..."""
SHARES = 10
"""Equal bins of a share between 0 and 1."""
Ints = npt.NDArray[np.int64]


def window_profile(
    users: Ints, items: Ints, labels: Ints, history_lengths: Ints, history_likes: Ints, train_items: Ints
) -> dict[str, Any]:
    """rows, users, items, label_rate, and counts: bins of history length, share of likes in it, popularity, rows per user.

    Args:
        users: (R,) user_idx.
        items: (R,) item_idx.
        labels: (R,) 0 or 1.
        history_lengths: (R,) items in the history of each row.
        history_likes: (R,) how many of them were liked.
        train_items: (T,) item_idx of the train rows: an item's popularity is how often it stands there.
    """
    popularity = np.bincount(train_items, minlength=int(items.max(initial=0)) + 1)[items]
    real = history_lengths > 0
    shares = history_likes[real] / history_lengths[real]
    per_user = np.unique(users, return_counts=True)[1]
    return {
        "rows": len(labels),
        "users": len(per_user),
        "items": len(np.unique(items)),
        "label_rate": float(labels.mean()) if len(labels) else None,
        "counts": {
            "history_length": _powers(history_lengths),
            "history_liked": np.histogram(shares, SHARES, (0.0, 1.0))[0].tolist(),
            "item_popularity": _powers(popularity),
            "rows_per_user": _powers(per_user),
        },
    }


def stability(old: npt.ArrayLike, new: npt.ArrayLike) -> float | None:
    """The population stability index of two rows of counts in the same bins; None if one of them is empty."""
    one, other = np.asarray(old, np.float64), np.asarray(new, np.float64)
    if not one.sum() or not other.sum():
        return None
    used = (one + other) > 0
    p, q = ((counts[used] + 0.5) / (counts[used] + 0.5).sum() for counts in (one, other))
    return float(((q - p) * np.log(q / p)).sum())


def drift_report(
    old: Mapping[str, Any],
    new: Mapping[str, Any],
    known_users: npt.NDArray[np.bool_],
    known_items: npt.NDArray[np.bool_],
    scored: tuple[Ints, Ints, npt.NDArray[np.float64]],
    own: Mapping[str, Any],
) -> dict[str, Any]:
    """The new window beside the champion's: a JSON-able dictionary.

    Keys: rows, users, items; label_rate and label_rate_champion; new_user_rows, new_item_rows (shares of rows); stability
    {statistic: psi}; champion {rows, auc, uauc on the new window, own_auc, own_auc_ci and own_uauc on the test rows of its own
    run}; warnings (sentences).

    Args:
        old: profile of the champion's window; empty where it carries none.
        new: profile of the new window.
        known_users: (R,) whether the champion knows the row's user.
        known_items: (R,) whether it knows the row's item.
        scored: users, labels and the champion's scores of the rows that it can score.
        own: the champion's own figures: auc, auc_ci, uauc.
    """
    counts = old.get("counts", {})
    found = {name: stability(counts[name], values) for name, values in new["counts"].items() if name in counts}
    users, labels, scores = scored
    report: dict[str, Any] = {
        "rows": new["rows"],
        "users": new["users"],
        "items": new["items"],
        "label_rate": new["label_rate"],
        "label_rate_champion": old.get("label_rate"),
        "new_user_rows": float(1 - known_users.mean()),
        "new_item_rows": float(1 - known_items.mean()),
        "stability": found,
        "champion": {
            "rows": len(labels),
            "auc": auc(scores, labels) if len(labels) else None,
            "uauc": uauc(users, scores, labels) if len(labels) else None,
            "own_auc": own.get("auc"),
            "own_auc_ci": own.get("auc_ci"),
            "own_uauc": own.get("uauc"),
        },
    }
    return {**report, "warnings": _warnings(report)}


def _warnings(report: Mapping[str, Any]) -> list[str]:
    told = [
        f"{name.replace('_', ' ')} is distributed otherwise than in the champion's window (PSI {value:.2f})"
        for name, value in report["stability"].items()
        if value is not None and value > DRIFTED
    ]
    for what in ("user", "item"):
        if (share := report[f"new_{what}_rows"]) > DRIFTED:
            told.append(f"{share:.0%} of the rows are of {what}s that the champion does not know")
    champion = report["champion"]
    if champion["auc"] is not None and champion["own_auc_ci"] and champion["auc"] < champion["own_auc_ci"][0]:
        told.append(
            f"the champion's AUC {champion['auc']:.4f} on the new window is below the interval of its own figure "
            f"({champion['own_auc_ci'][0]:.4f} to {champion['own_auc_ci'][1]:.4f})"
        )
    return told


def _powers(values: Ints) -> list[int]:
    places = np.ceil(np.log2(values.astype(np.float64) + 1)).astype(np.int64)  # 0, 1, 2-3, 4-7, ...
    return np.bincount(np.minimum(places, POWERS), minlength=POWERS + 1).tolist()
