"""The frozen collaborative-filtering encoder whose vectors become soft tokens (spec: section 2 of the method)."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from thinkrec_core.config.base import Frozen


class EncoderConfig(Frozen):
    """Kind, size and training of the CF encoder: pointwise BCE on 0/1 labels, selected on valid AUC."""

    kind: Literal["mf", "lightgcn", "sasrec"] = "mf"
    """Matrix factorisation, LightGCN, or SASRec."""

    embedding_size: int = Field(64, ge=1)
    """Length d of user and item vectors."""

    biases: bool = True
    """Add mu + b_u + b_i to the score."""

    layers: int = Field(2, ge=1)
    """Propagation layers (LightGCN) or transformer blocks (SASRec); unused by MF."""

    max_length: int = Field(25, ge=1)
    """History items that SASRec reads."""

    dropout: float = Field(0.2, ge=0, lt=1)
    """SASRec dropout."""

    learning_rate: float = Field(3e-3, gt=0)
    weight_decay: float = Field(5e-5, ge=0)
    """Coupled L2 of Adam."""
    batch_size: int = Field(1024, ge=1)
    epochs: int = Field(30, ge=1)
    patience: int = Field(5, ge=1)
    """Epochs without a better valid AUC before training stops."""

    prior_folds: int = Field(4, ge=2)
    """Folds for the out-of-fold logits of train rows: an in-sample prior would be trusted too much."""

    fold_by: Literal["row", "user"] = "row"
    """`user` where the test has users without train rows (global time splits); `row` where every user is known."""
