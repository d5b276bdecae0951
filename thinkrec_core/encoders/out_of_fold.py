"""Logits of train rows by models that have not seen those rows: what the LLM is given as prior must not be memory."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from thinkrec_core.config.encoder import EncoderConfig
from thinkrec_core.encoders.examples import Examples, Sizes
from thinkrec_core.encoders.fit import fit_epochs, score_examples
from thinkrec_core.encoders.folds import deal, deal_users
from thinkrec_core.seeds import generator


def assign_folds(config: EncoderConfig, train: Examples, seed: int) -> npt.NDArray[np.int64]:
    """(R,) the fold 0..prior_folds-1 of each row: of equal size in rows (`fold_by` row) or in users (`fold_by` user)."""
    rng = generator(seed, "encoder", "folds")
    if config.fold_by == "row":
        return deal(len(train), config.prior_folds, rng)
    return deal_users(train.user_idx, config.prior_folds, rng)


def out_of_fold_logits(
    config: EncoderConfig,
    train: Examples,
    sizes: Sizes,
    epochs: int,
    seed: int,
    progress: Callable[[int], None] | None = None,
) -> npt.NDArray[np.float32]:
    """(R,) for each train row the logit of the model that was fitted on the other folds.

    Each fold's model runs for `epochs` epochs, the best number of the full fit, so that valid rows are not used again. A
    row whose user or item occurs in no other fold gets what the model says of an unknown one: mu and the main effect of
    the other side. Graphs (LightGCN) and user histories (SASRec) are built from the other folds too; a SASRec row still
    reads its own history, whose items are inputs and not labels of this row.

    Args:
        epochs: 0 scores with the start of the encoder, with biases the bias model.
        progress: called with the number of finished folds.

    Raises:
        TrainingError: a loss is not finite.
    """
    folds = assign_folds(config, train, seed)
    logits = np.zeros(len(train), np.float32)
    for fold in range(config.prior_folds):
        held_out = folds == fold
        if held_out.any() and not held_out.all():
            encoder = fit_epochs(config, train.rows(~held_out), sizes, epochs, seed, f"fold {fold}")
            logits[held_out] = score_examples(encoder, train.rows(held_out))
        if progress:
            progress(fold + 1)
    return logits
