"""The named valid score by which a checkpoint is chosen; higher is better."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

SelectBy = Literal["auc", "uauc", "auc/4+uauc/3", "log_loss"]


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
