"""The named valid score by which a checkpoint is chosen, and the weight of the LLM beside a prior; higher is better."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

from thinkrec_core.evaluation.auc import auc, uauc
from thinkrec_core.evaluation.calibration import log_loss

SelectBy = Literal["auc", "uauc", "auc/4+uauc/3", "log_loss"]
RATIOS = (0.2, 0.3, 0.4, 0.5, 0.7, 1.0)
"""Deviations of the weighted LLM logit over the prior's among which `choose_weight` chooses."""


def valid_figures(
    user: npt.ArrayLike, label: npt.ArrayLike, scores: npt.NDArray[np.float64], by: SelectBy
) -> dict[str, float | None]:
    """auc, uauc, log_loss and "score", the one to maximise, of valid rows."""
    figures = {"auc": auc(scores, label), "uauc": uauc(user, scores, label), "log_loss": log_loss(scores, label)}
    return figures | {"score": selection_score(figures, by)}


def choose_weight(
    user: npt.ArrayLike,
    label: npt.ArrayLike,
    prior: npt.NDArray[np.float64],
    llm: npt.NDArray[np.float64],
    by: SelectBy,
    others: Sequence[float] = (1.0,),
) -> float:
    """The factor a for which prior + a * llm has the best score `by` on these (valid) rows.

    Candidates are `others`, by default 1, the weight of the training, and those that give a * llm a deviation of RATIOS times
    the prior's; 1 where the LLM says the same of every row. A weight of 0 is none of them: what the LLM adds shall be seen,
    also where it is harm.
    """
    spread = float(llm.std())
    if not spread:
        return 1.0
    candidates = [*others, *(ratio * float(prior.std()) / spread for ratio in RATIOS)]

    def score(weight: float) -> float:
        found = valid_figures(user, label, prior + weight * llm, by)["score"]
        assert found is not None
        return found

    return max((weight for weight in candidates if weight), key=score, default=1.0)


def selection_score(figures: Mapping[str, float | None], by: SelectBy) -> float:
    """The score `by` of valid figures "auc", "uauc", "log_loss".

    The published score is auc/4 + uauc/3. A figure that a small valid set leaves undefined (one class, no user with both)
    counts as .5, the figure of a coin.
    """
    auc, uauc = figures.get("auc"), figures.get("uauc")
    auc, uauc = 0.5 if auc is None else auc, 0.5 if uauc is None else uauc
    if by == "log_loss":
        loss = figures.get("log_loss")
        return float("-inf") if loss is None else -loss
    return {"auc": auc, "uauc": uauc, "auc/4+uauc/3": auc / 4 + uauc / 3}[by]
