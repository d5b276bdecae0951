"""The runs of the ML-1M study and the configuration of each: one backbone, one budget, every rung on the same rows.

Without a reasoning teacher there are no reflections, so the ThinkRec rungs here train without reasoning batches and say so in
their names.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from thinkrec_core.config.root import ThinkRecConfig

Protocol = Literal["liked", "labelled"]
Prior = Literal["none", "encoder", "stacker"]
"""What is added to the LLM's score: nothing, the encoder's logit (in the loss too), or after the training the stacker's."""
Rung = Literal["tallrec", "collm", "thinkrec_no_think", "thinkrec_experts_no_think"]
INPUT_SEED = 7
"""Seed of data, encoder and clusters, shared by all seeds of the LLM: an encoder of its own would need inputs of its own."""


@dataclass(frozen=True)
class Budget:
    """What one training may spend."""

    steps: int
    batch_size: int
    validate_every: int
    checkpoint_every: int
    valid_rows: int
    expert_steps: int


GPU = Budget(steps=900, batch_size=48, validate_every=150, checkpoint_every=50, valid_rows=2000, expert_steps=200)
"""One and a quarter epochs of 33,891 rows: longer trainings got worse on valid."""
CPU = Budget(steps=340, batch_size=16, validate_every=85, checkpoint_every=20, valid_rows=200, expert_steps=40)
"""About half an hour on two cores."""


@dataclass(frozen=True)
class Run:
    """One trained and scored rung."""

    protocol: Protocol
    rung: Rung
    prior: Prior
    seed: int

    @property
    def name(self) -> str:
        """Unique, and fit for a file name."""
        return f"{self.protocol}-{self.rung}-{self.prior}-{self.seed}"

    @property
    def general(self) -> Run:
        """The run whose adapter the experts start from."""
        return Run(self.protocol, "thinkrec_no_think", self.prior, self.seed)

    def describe(self) -> dict[str, Any]:
        """JSON values."""
        return asdict(self)


def plan(seeds: tuple[int, ...] = (0, 1, 2)) -> list[Run]:
    """All runs, the most telling first, so that a lease that ends early has answered the main question."""
    first, *others = seeds
    steps: list[tuple[Rung, Prior, int]] = [
        ("thinkrec_no_think", "encoder", first),
        ("thinkrec_no_think", "stacker", first),
        ("thinkrec_experts_no_think", "encoder", first),
        ("thinkrec_no_think", "none", first),
        ("collm", "none", first),
        ("tallrec", "none", first),
        *(("thinkrec_no_think", "stacker", seed) for seed in others),
        *(("thinkrec_no_think", "encoder", seed) for seed in others),
    ]
    for seed in others:
        steps += [("thinkrec_experts_no_think", "encoder", seed), ("thinkrec_no_think", "none", seed)]
    return [Run(protocol, *step) for step in steps for protocol in ("liked", "labelled")]


def configuration(run: Run, budget: Budget) -> ThinkRecConfig:
    """The configuration of `run`, whose prior is not the stacker.

    Differs from the paper's 8B settings: a small LM learns soft tokens only with larger rates, adapter and projector
    together, and a score that is scaled down so that its first steps do not drown the prior.
    """
    steps = {"steps": budget.steps, "batch_size": budget.batch_size, "validate_every": budget.validate_every}
    text_only, published = run.rung == "tallrec", run.rung in ("tallrec", "collm")
    # Published rungs see the vectors alone. Vectors fitted on the train rows leak labels: the others leave them out.
    projector = {"multiplier": 2, "inputs": "vectors"} if published else {"multiplier": 40, "inputs": "out_of_fold"}
    schedule = {"tallrec": "text", "collm": "staged"}.get(run.rung, "joint")
    if schedule == "staged":  # two phases share the budget
        steps["steps"] = budget.steps // 2
    return ThinkRecConfig.model_validate(
        {
            "seed": run.seed,
            "data": {"split": "given", "history": run.protocol},
            "encoder": encoder_settings(),
            "llm": {
                "max_history": 10,
                "max_prompt_tokens": 320,
                "score": "yes_minus_no",
                "score_scale": 0.25,
                "projector": {"n_tokens": 2, **projector},
            },
            "training": {
                **steps,
                **rates(5e-4, 40),
                "schedule": schedule,
                "prior": run.prior,
                "select_by": "auc/4+uauc/3",
                "patience": 100,
                "valid_rows": budget.valid_rows,
                "objective": {"theta": 1.0, "gamma": 0.0} if published else {},
                "projector": {**steps, **rates(3e-3, 40)},
                "engine": {"backend": "torch", "checkpoint_every": budget.checkpoint_every},
            },
            "experts": {
                "count": 2,
                "prompt": "text" if text_only else "id",
                "training": {**steps, **rates(2e-4, 20), "steps": budget.expert_steps, "patience": 100},
            },
        }
    )


def rates(peak: float, warmup_steps: int) -> dict[str, float | int]:
    """Warm-up from a tenth of `peak`, cosine down to a tenth."""
    return {
        "learning_rate": peak,
        "min_learning_rate": peak / 10,
        "warmup_learning_rate": peak / 10,
        "warmup_steps": warmup_steps,
    }


def encoder_settings() -> dict[str, Any]:
    """The encoder whose vectors and out-of-fold logits all rungs share; its settings were found on valid."""
    return {
        "kind": "lightgcn",
        "embedding_size": 64,
        "learning_rate": 5e-3,
        "weight_decay": 1e-5,
        "epochs": 100,
        "patience": 10,
        "fold_by": "user",
    }


def input_configuration(protocol: Protocol, source: Path, max_users: int | None) -> ThinkRecConfig:
    """The configuration that data, encoder and clusters of `protocol` are made under."""
    data = {"source": str(source), "split": "given", "history": protocol, "max_users": max_users}
    return ThinkRecConfig.model_validate({"seed": INPUT_SEED, "data": data, "encoder": encoder_settings()})
