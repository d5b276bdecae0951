"""Whether a candidate takes the place of the champion: one rule on paired scores of the same rows."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from thinkrec_core.evaluation.comparison import compare_scores

FIRST = "the first version of its model: there is no champion to compare with"


def first_decision() -> dict[str, Any]:
    """The decision about a candidate without a champion: it becomes champion."""
    return {"decision": "promoted", "reason": FIRST}


def decide(
    users: npt.ArrayLike,
    labels: npt.ArrayLike,
    champion: npt.ArrayLike,
    candidate: npt.ArrayLike,
    by: Literal["auc", "uauc"],
    margin: float,
    resamples: int,
    generator: np.random.Generator,
) -> dict[str, Any]:
    """The candidate is promoted if and only if the 95% interval of candidate - champion lies above `margin`.

    Keys: decision ("promoted" or "refused"), reason, by, margin, rows, users, champion, candidate, difference (None where
    undefined), ci (95%, paired, whole users drawn again) and p.

    Args:
        users: (R,) integer ids.
        labels: (R,) 0 or 1.
        champion: (R,) its scores.
        candidate: (R,) its scores of the same rows.
        by: the figure that decides.
        margin: what the lower end of the interval has to exceed.
        resamples: user-cluster bootstrap draws.

    Raises:
        DataError: no rows, unequal lengths, a score that is not finite, or another label.
    """
    found = compare_scores(users, labels, {"model": ([champion], [candidate])}, resamples, generator)["model"][by]
    name, ci = by.upper(), found["ci"]
    if ci is None:
        decision, reason = "refused", f"{name} is undefined on these rows, so nothing shows that it is better"
    elif ci[0] > margin:
        decision, reason = (
            "promoted",
            f"its {name} is better by {found['difference']:+.4f} {_told(ci)}, above {margin:g}",
        )
    else:
        reason = f"its {name} differs by {found['difference']:+.4f} {_told(ci)}, not wholly above {margin:g}"
        decision = "refused"
    return {
        "decision": decision,
        "reason": reason,
        "by": by,
        "margin": margin,
        "rows": len(np.asarray(labels)),
        "users": len(np.unique(np.asarray(users))),
        "champion": found["first"],
        "candidate": found["second"],
        "difference": found["difference"],
        "ci": ci,
        "p": found["p"],
    }


def _told(ci: list[float]) -> str:
    return f"(95% interval {ci[0]:+.4f} to {ci[1]:+.4f})"
