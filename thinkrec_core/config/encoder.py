"""The frozen collaborative-filtering encoder whose vectors become soft tokens (spec: section 2 of the method)."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import Field, field_validator

from thinkrec_core.config.base import Frozen

KINDS = ("mf", "lightgcn", "sasrec", "din", "dcn")
IMPORT_PATH = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")


class EncoderConfig(Frozen):
    """Kind, size and training of the CF encoder: pointwise BCE on 0/1 labels, selected on valid AUC."""

    kind: str = "mf"
    """mf (matrix factorisation), lightgcn, sasrec, din, dcn, or `package.module:Class` of an encoder of your own."""

    options: dict[str, bool | int | float | str] = Field(default_factory=dict)
    """Read by an encoder of your own."""

    embedding_size: int = Field(64, ge=1)
    """Length d of user and item vectors."""

    biases: bool = True
    """Add mu + b_u + b_i to the score."""

    layers: int = Field(2, ge=1)
    """Propagation layers (LightGCN), transformer blocks (SASRec) or cross layers (DCN); unused by MF and DIN."""

    max_length: int = Field(25, ge=1)
    """History items that SASRec, DIN and DCN read."""

    dropout: float = Field(0.2, ge=0, lt=1)
    """Dropout of SASRec, DIN and DCN."""

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

    @field_validator("kind")
    @classmethod
    def _known(cls, kind: str) -> str:
        if kind not in KINDS and not IMPORT_PATH.fullmatch(kind):
            raise ValueError(f"no encoder {kind}; expected {', '.join(KINDS)} or package.module:Class")
        return kind

    @property
    def is_own(self) -> bool:
        """Whether the kind is an import path."""
        return self.kind not in KINDS
