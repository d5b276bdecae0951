"""Which rungs are scored on which rows, and with which intervals (spec: section 6 of the method)."""

from __future__ import annotations

from typing import Literal, get_args

from pydantic import Field

from thinkrec_core.config.base import Frozen

Rung = Literal[
    "popularity",
    "item_mean",
    "bias",
    "encoder",
    "stacker",
    "zero_shot",
    "thinkrec_general_llm",
    "thinkrec_experts_llm",
    "thinkrec_general",
    "thinkrec_experts",
]
ALL_RUNGS: tuple[Rung, ...] = get_args(Rung)


class EvaluationConfig(Frozen):
    """The fixed test rows, the ladder of rungs, and the bootstrap."""

    rungs: tuple[Rung, ...] = ALL_RUNGS
    """Rungs of the ladder. `*_llm` is the LLM logit alone (the paper's score); without it the prior is added.
    `stacker` is scored where it is `training.prior`, and left out elsewhere (`thinkrec ladder` fits it by itself)."""
    test_rows: int | None = Field(None, ge=2)
    """About this many test rows, drawn as whole users with a fixed seed; null takes all."""
    floor: Rung = "bias"
    """The rung that paired differences are taken against."""
    bootstrap: int = Field(1000, ge=10)
    """User-cluster bootstrap resamples."""
    explanations: int = Field(2, ge=0)
    """Test rows for which the student writes its reasons."""
    explanation_tokens: int = Field(80, ge=8)
