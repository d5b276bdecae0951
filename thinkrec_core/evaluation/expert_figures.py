"""Whether experts help, and whom: figures by variant of the routing, by cluster and by route."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from thinkrec_core.evaluation.auc import auc, uauc
from thinkrec_core.evaluation.ladder import evaluate_ladder

FIGURES = ("auc", "auc_ci", "uauc", "uauc_ci", "log_loss", "versus_floor")


def expert_figures(
    users: npt.ArrayLike,
    labels: npt.ArrayLike,
    scores: Mapping[str, npt.ArrayLike],
    clusters: npt.ArrayLike,
    routes: npt.ArrayLike,
    resamples: int,
    generator: np.random.Generator,
) -> dict[str, Any]:
    """A JSON-able dictionary with variants, clusters and routes.

    variants: per variant auc and uauc with intervals, log_loss, versus_floor (paired differences to `general`), and changed
    (rows whose score differs from that of `general`). clusters and routes: rows, users, and per variant auc and uauc of the
    rows of that part; a figure that is undefined there is None. Users without a cluster are the part "none".

    Args:
        users: (R,) user of each row.
        labels: (R,) 0 or 1.
        scores: (R,) logits per variant; `general` is among them.
        clusters: (R,) cluster of the row's user, -1 for none.
        routes: (R,) route of the row's user.
        resamples: user-cluster bootstrap draws, the same for all variants.

    Raises:
        DataError: as `evaluate_ladder`.
    """
    owner, y = np.asarray(users), np.asarray(labels)
    by_variant = {name: np.asarray(values, dtype=np.float64) for name, values in scores.items()}
    warm = np.ones(len(y), dtype=bool)
    ladder = evaluate_ladder(owner, y, warm, by_variant, "general", resamples, generator)
    variants = {
        name: {figure: rung[figure] for figure in FIGURES}
        | {"changed": int((by_variant[name] != by_variant["general"]).sum())}
        for name, rung in ladder["rungs"].items()
    }

    def parts(of: npt.NDArray[Any]) -> dict[str, Any]:
        return {str(value): _part(owner, y, by_variant, of == value) for value in np.unique(of)}

    numbers = np.asarray(clusters)
    named = np.where(numbers < 0, "none", numbers.astype(str))
    return {
        "rows": ladder["rows"],
        "users": ladder["users"],
        "resamples": resamples,
        "variants": variants,
        "clusters": parts(named),
        "routes": parts(np.asarray(routes)),
    }


def _part(
    users: npt.NDArray[Any],
    labels: npt.NDArray[Any],
    scores: Mapping[str, npt.NDArray[Any]],
    rows: npt.NDArray[np.bool_],
) -> dict[str, Any]:
    figures = {
        name: {"auc": auc(values[rows], labels[rows]), "uauc": uauc(users[rows], values[rows], labels[rows])}
        for name, values in scores.items()
    }
    return {"rows": int(rows.sum()), "users": len(np.unique(users[rows])), **figures}
