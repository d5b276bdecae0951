"""What is reported of a run: figures with intervals beside their floor, and whether the LLM's part carries anything."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.ml1m.verdict import lost
from thinkrec_core.config.ladder import BiasConfig
from thinkrec_core.encoders.bias import fit_bias
from thinkrec_core.encoders.content import ItemContent
from thinkrec_core.encoders.examples import Sizes
from thinkrec_core.evaluation.ladder import evaluate_ladder
from thinkrec_core.recllm.records import Samples
from thinkrec_core.seeds import generator

Scores = npt.NDArray[np.float64]
RESAMPLES = 1000
KEPT = ("auc", "auc_ci", "uauc", "uauc_ci", "log_loss", "warm", "cold", "versus_floor")


def figures(
    train: Samples,
    test: Samples,
    content: ItemContent,
    not_cold: npt.NDArray[np.bool_],
    llm: Scores,
    with_prior: bool,
) -> dict[str, Any]:
    """Aggregates over the test rows, fit to be committed.

    Keys: rows, users_uauc, rungs (bias, encoder, model, llm: figures, intervals and paired differences to the encoder),
    llm_std_ratio (deviation of the LLM's score over the prior's), shuffled_loss_ci (95% interval of what the AUC loses when the
    LLM's scores are shuffled across rows; None without prior).

    Args:
        llm: (R,) score of the LLM without prior.
    """
    sizes = Sizes(int(max(train.user_idx.max(), test.user_idx.max())), len(content.year) - 1)
    bias = fit_bias(BiasConfig(), train.user_idx, train.item_idx, train.label, content, sizes)
    prior = test.encoder_logit
    model = prior + llm if with_prior else llm
    rungs = {"bias": bias.score(test.user_idx, test.item_idx), "encoder": prior, "model": model, "llm": llm}
    shuffled = llm[generator(0, "study", "shuffle").permutation(len(llm))]
    found = evaluate_ladder(
        test.user_idx, test.label, not_cold, rungs, "encoder", RESAMPLES, generator(0, "study", "bootstrap")
    )
    return {
        "rows": found["rows"],
        "users_uauc": found["users_uauc"],
        "rungs": {name: {key: rung[key] for key in KEPT} for name, rung in found["rungs"].items()},
        "llm_std_ratio": float(llm.std() / prior.std()),
        "shuffled_loss_ci": lost(test.user_idx, test.label, model, prior + shuffled) if with_prior else None,
    }
