"""What the interactions are and how they are labelled, split and given histories (spec: section 1 of the method)."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from thinkrec_core.config.base import Frozen


class DataConfig(Frozen):
    """Source, labels, split and histories."""

    source: str = "ml-100k"
    """`ml-100k` (the hash-pinned embedded data set), or a folder with interactions.{parquet,csv} and items.{parquet,csv}
    in canonical column names."""

    history: Literal["liked", "labelled"] = "labelled"
    """`liked`: earlier liked items only (CoLLM). `labelled`: all earlier items with their labels (ThinkRec)."""

    positive_threshold: float = 4.0
    """label = rating >= positive_threshold; unused where the source has labels."""

    split: Literal["per_user", "global", "given"] = "per_user"
    """`per_user`: each user's last rows by time; `global`: one time line for all users; `given`: the source's column."""

    valid_fraction: float = Field(0.1, gt=0, lt=0.5)
    """Share of rows for validation (per user or of all rows by time)."""

    test_fraction: float = Field(0.1, gt=0, lt=0.5)
    """Share of rows for the test (per user or of all rows by time)."""

    max_history: int = Field(50, ge=1)
    """Newest history items stored per row; the LLM reads the last `llm.max_history` of them."""

    ties: Literal["strict", "published"] = "strict"
    """`strict`: a history holds strictly earlier timestamps only. `published` [compat]: equal timestamps of a user count
    as earlier in file row order, as the published tables have it; such rows leak labels of the same moment."""

    max_users: int | None = Field(None, ge=10)
    """Keep a seeded sample of this many users (quick looks); null keeps all."""

    @model_validator(mode="after")
    def _fractions_leave_train_rows(self) -> Self:
        if self.valid_fraction + self.test_fraction > 0.8:
            raise ValueError(
                f"valid_fraction {self.valid_fraction} + test_fraction {self.test_fraction} leave less than 20% to train on"
            )
        return self
