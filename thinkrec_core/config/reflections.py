"""Wrong predictions, the teacher, and the dialogue that turns the one into reflections (spec: section 4 of the method)."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from thinkrec_core.config.base import Frozen

LOCAL, JOURNAL = "local", "journal"
"""Values of `teacher.base_url` that are no URL."""


class WrongPredictionsConfig(Frozen):
    """Whose mistakes are collected, and how many."""

    student: Literal["encoder", "zero_shot", "warm_start"] = "encoder"
    """`encoder`: the CF encoder's out-of-fold logits; `zero_shot`: the untrained LM; `warm_start`: the LM after stages
    1 and 2 on recommendation batches, as the paper does."""

    candidates: int = Field(2000, ge=1)
    """Train rows that an LLM student scores (a seeded sample); the encoder scores them all."""

    rows: int = Field(48, ge=1)
    """Wrong predictions kept, half of each gold label where possible."""


class TeacherConfig(Frozen):
    """An OpenAI-compatible chat endpoint. The key is read from the environment and never stored."""

    base_url: str = "local"
    """`local`: the pipeline starts and stops a server of `model` on this machine. `journal`: nobody is asked; what the
    journal does not hold is rejected. Else the URL up to /v1."""

    model: str = "smollm2-135m"
    """Model name sent to the endpoint; for `local` also the model that is served."""

    api_key_env: str = "THINKREC_TEACHER_API_KEY"
    """Name of the environment variable that holds the key; unused by `local`."""

    style: Literal["reasoning", "instruct"] = "instruct"
    """`reasoning`: the model thinks aloud and its trace is kept; `instruct`: it is asked for a verdict and two or three
    sentences of reasons, and the text after the verdict is the trace."""

    concurrency: int = Field(8, ge=1)
    """Requests in flight."""

    requests_per_minute: int = Field(600, ge=1)
    timeout_seconds: float = Field(120.0, gt=0)
    """Limit of one request, from sending to the last byte."""
    attempts: int = Field(4, ge=1)
    """Tries per request on rate limits, server errors and cut connections."""
    temperature: float = Field(0.6, ge=0)
    top_p: float = Field(0.95, gt=0, le=1)
    max_tokens: int = Field(1024, ge=8)
    """Answer budget of the first round."""
    max_tokens_step: int = Field(512, ge=0)
    """Added after an empty answer."""
    max_tokens_limit: int = Field(3072, ge=8)
    port: int | None = Field(None, ge=1, le=65535)
    """Port of the local server; null picks a free one."""
    startup_seconds: float = Field(180.0, gt=0)
    """Time that the local server has to become ready."""

    @model_validator(mode="after")
    def _budget_can_be_reached(self) -> Self:
        if self.max_tokens > self.max_tokens_limit:
            raise ValueError(f"max_tokens {self.max_tokens} exceeds max_tokens_limit {self.max_tokens_limit}")
        return self


class ReflectionsConfig(Frozen):
    """The bounded dialogue and what of it may be trained on."""

    max_rounds: int = Field(7, ge=1, le=7)
    """Requests per wrong prediction: the question, then at most six different hints."""

    min_accepted: int = Field(16, ge=0)
    """Fewer accepted reflections stop the run. 0 (only sensible for smoke runs) trains without reasoning batches."""

    max_trace_tokens: int = Field(409, ge=8)
    """Answer tokens of a reasoning sample, the verdict included; longer traces are cut and counted."""

    min_trace_words: int = Field(5, ge=1)
    """Shorter traces are rejected as empty of reasons."""

    max_trace_words: int = Field(4000, ge=1)
    """Longer traces are rejected: a teacher that went round in circles, or that ignored its budget."""

    train_on_leaked: bool = False
    """Train on traces that mention the hint ("the correct answer is ...")."""
