"""Wrong predictions, the teacher, and the dialogue that turns the one into reflections (spec: section 4 of the method)."""

from __future__ import annotations

import re
from typing import Literal, Self

from pydantic import Field, JsonValue, field_validator, model_validator

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


class Price(Frozen):
    """What a model costs, per million tokens, in any one currency."""

    input: float = Field(ge=0)
    """Of prompt tokens."""
    output: float = Field(ge=0)
    """Of answer tokens, thinking included."""

    def cost(self, prompt_tokens: int, completion_tokens: int) -> float:
        """The cost of one request, or of many together."""
        return (prompt_tokens * self.input + completion_tokens * self.output) / 1e6


class TeacherConfig(Frozen):
    """An OpenAI-compatible chat endpoint. Keys are read from the environment and never stored."""

    base_url: str = "local"
    """`local`: the pipeline starts and stops a server of `model` on this machine. `journal`: nobody is asked; what the
    journal does not hold is rejected. Else the URL up to /v1."""

    model: str = "smollm2-135m"
    """Model name sent to the endpoint; for `local` also the model that is served."""

    api_key_env: str = "THINKREC_TEACHER_API_KEY"
    """Names of the environment variables that hold the keys, separated by commas; a variable may hold several keys,
    separated by commas as well. Keys are used in turn; unused by `local`."""

    style: Literal["reasoning", "instruct"] = "instruct"
    """`reasoning`: the model thinks aloud and its trace is kept; `instruct`: it is asked for a verdict and two or three
    sentences of reasons, and the text after the verdict is the trace."""

    concurrency: int = Field(8, ge=1)
    """Requests in flight."""

    requests_per_minute: int = Field(600, ge=1)
    """Of all keys together, spread evenly; rate limits of the endpoint are waited out beside it."""
    tokens_per_minute: int | None = Field(None, ge=1)
    """Of all keys together, prompts and answers; a request counts with its whole answer budget until it is answered."""
    timeout_seconds: float = Field(120.0, gt=0)
    """Limit of one try, from sending to the last byte."""
    attempts: int = Field(4, ge=1)
    """Tries per request on server errors, time-outs and cut connections. Rate limits (429) use up time, not tries."""
    request_seconds: float = Field(900.0, gt=0)
    """Limit of one request with all its tries and waits; waits for the limits per minute and for money do not count."""
    run_seconds: float | None = Field(None, gt=0)
    """Time after which a run stops asking; its answers are kept, and the next run goes on from there."""
    prices: dict[str, Price] = Field(default_factory=dict)
    """Price of each model by its name: {Qwen/QwQ-32B: {input: 0.15, output: 0.4}}."""
    max_request_cost: float | None = Field(None, gt=0)
    """A request that could cost more, were its answer budget used up, is not sent: its row is rejected."""
    max_run_cost: float | None = Field(None, gt=0)
    """What a run may spend on new answers. It stops before it would exceed this; its answers are kept."""
    ca_bundle: str | None = None
    """PEM file of the certificates to trust instead of the usual ones: for a company's own authority."""
    extra_headers: dict[str, str] = Field(default_factory=dict)
    """Headers of every request. ${NAME} in a value is read from the environment: the place for secrets."""
    extra_body: dict[str, JsonValue] = Field(default_factory=dict)
    """Fields added to the body of every request, such as {chat_template_kwargs: {enable_thinking: true}}."""
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

    @model_validator(mode="after")
    def _limits_have_a_price(self) -> Self:
        for name in ("max_request_cost", "max_run_cost"):
            if getattr(self, name) is not None and self.price is None:
                raise ValueError(f"{name} needs the price of {self.model!r} in prices")
        return self

    @field_validator("extra_headers")
    @classmethod
    def _secrets_stay_in_the_environment(cls, headers: dict[str, str]) -> dict[str, str]:
        for name, value in headers.items():
            if _SECRET_HEADER.search(name) and not HEADER_VARIABLE.search(value):
                raise ValueError(f"header {name} may hold a secret: write ${{NAME}} and set that environment variable")
        return headers

    @field_validator("extra_body")
    @classmethod
    def _no_field_twice(cls, body: dict[str, JsonValue]) -> dict[str, JsonValue]:
        if taken := sorted(body.keys() & RESERVED_FIELDS):
            raise ValueError(f"{', '.join(taken)} cannot be set here; expected fields other than {_listed()}")
        return body

    @property
    def price(self) -> Price | None:
        """The price of `model`, or None where the table lacks it."""
        return self.prices.get(self.model)


HEADER_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
"""A reference to an environment variable in the value of a header."""
_SECRET_HEADER = re.compile(r"auth|key|token|secret|cookie|password", re.IGNORECASE)
RESERVED_FIELDS = frozenset({"model", "messages", "max_tokens", "temperature", "top_p", "seed", "n", "stream"})
"""Fields of the body that the dialogue sets, or that would change the form of the answer."""


def _listed() -> str:
    return ", ".join(sorted(RESERVED_FIELDS))


class ReflectionsConfig(Frozen):
    """The bounded dialogue and what of it may be trained on."""

    max_rounds: int = Field(7, ge=1, le=7)
    """Requests per wrong prediction: the question, then at most six different hints."""

    min_accepted: int = Field(16, ge=0)
    """Fewer accepted reflections stop the run. 0 (only sensible for smoke runs) trains without reasoning batches."""

    max_failed_share: float = Field(0.1, ge=0, le=1)
    """A larger share of wrong predictions whose requests fail stops the run. Failed ones are asked again by the next."""

    max_trace_tokens: int = Field(409, ge=8)
    """Answer tokens of a reasoning sample, the verdict included; longer traces are cut and counted."""

    min_trace_words: int = Field(5, ge=1)
    """Shorter traces are rejected as empty of reasons."""

    max_trace_words: int = Field(4000, ge=1)
    """Longer traces are rejected: a teacher that went round in circles, or that ignored its budget."""

    train_on_leaked: bool = False
    """Train on traces that mention the hint ("the correct answer is ...")."""
