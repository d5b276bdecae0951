"""What the CPU study claims of a protocol: the weight of the LLM, chosen on valid, and the figures of the test rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from thinkrec_core.evaluation.auc import auc, uauc
from thinkrec_core.evaluation.bootstrap import WeightedAUC, interval, user_weights
from thinkrec_core.evaluation.ladder import evaluate_ladder
from thinkrec_core.recllm import selection
from thinkrec_core.recllm.selection import SelectBy
from thinkrec_core.seeds import generator

Scores = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
SELECT_BY: SelectBy = "auc/4+uauc/3"
RESAMPLES, NEIGHBOURS = 1000, 50


def choose_weight(user: Ints, label: Ints, prior: Scores, llm: Scores) -> float:
    """The weight of an LLM that was trained without the prior, so that none stands out; the claim asks for a ratio of .15."""
    return selection.choose_weight(user, label, prior, llm, SELECT_BY, others=())


def claims(user: Ints, label: Ints, prior: Scores, llm: Scores) -> dict[str, Any]:
    """The keys that the benchmark prints.

    Args:
        llm: (R,) weighted LLM logits; the model's score is prior + llm.
    """
    model = prior + llm
    shuffled = llm[generator(0, "verdict", "shuffle").permutation(len(llm))]
    return {
        "floor_auc": auc(prior, label),
        "floor_uauc": uauc(user, prior, label),
        "auc": auc(model, label),
        "uauc": uauc(user, model, label),
        "auc_llm_only": auc(llm, label),
        "llm_std_ratio": float(llm.std() / prior.std()),
        "shuffled_loss_ci": lost(user, label, model, prior + shuffled),
        "rows": len(label),
    }


def details(
    user: Ints, label: Ints, not_cold: npt.NDArray[np.bool_], rungs: Mapping[str, Scores], prior: Scores, llm: Scores
) -> dict[str, Any]:
    """Figures and 95% intervals of all `rungs` with paired differences to "floor", and `echo_ci`.

    echo_ci: what the AUC loses when the LLM's logits are shuffled among 50 rows with nearly the same prior. An LLM that only
    repeats the prior loses by a shuffle over all rows, but not by this one.
    """
    draw = generator(0, "verdict", "bootstrap")
    found = evaluate_ladder(user, label, not_cold, dict(rungs), "floor", RESAMPLES, draw)
    kept = ("auc", "auc_ci", "uauc", "uauc_ci", "log_loss", "versus_floor")
    shuffled, echo = llm.copy(), generator(0, "verdict", "echo")
    order = np.argsort(prior, kind="stable")
    for start in range(0, len(order), NEIGHBOURS):
        rows = order[start : start + NEIGHBOURS]
        shuffled[rows] = llm[echo.permutation(rows)]
    return {
        "users_uauc": found["users_uauc"],
        "rungs": {name: {key: rung[key] for key in kept} for name, rung in found["rungs"].items()},
        "echo_ci": lost(user, label, prior + llm, prior + shuffled),
    }


def lost(user: Ints, label: Ints, whole: Scores, shuffled: Scores) -> list[float] | None:
    """95% interval, over resampled users, of the AUC of `whole` minus that of `shuffled`."""
    _, place = np.unique(user, return_inverse=True)
    one, other = WeightedAUC(place, whole, label), WeightedAUC(place, shuffled, label)
    blocks = user_weights(int(place.max()) + 1, len(label), RESAMPLES, generator(0, "verdict", "users"))
    return interval(np.concatenate([one(weights) - other(weights) for weights in blocks]))
