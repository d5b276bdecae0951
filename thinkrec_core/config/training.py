"""The dual-objective training of the LLM and the DeepSpeed engine under it (spec: section 3 of the method)."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from thinkrec_core.config.base import Frozen


class ObjectiveConfig(Frozen):
    """Weights of the two batch kinds (paper, training objective)."""

    alpha: float = Field(0.1, ge=0)
    """BCE weight of a reasoning batch."""
    beta: float = Field(0.9, ge=0)
    """Cross-entropy weight of a reasoning batch."""
    theta: float = Field(0.9, ge=0)
    """BCE weight of a recommendation batch."""
    gamma: float = Field(0.1, ge=0)
    """Cross-entropy weight of a recommendation batch."""
    reasoning_probability: float = Field(0.2, ge=0, le=1)
    """Chance that an optimiser step is a reasoning batch."""


class OptimisationConfig(Frozen):
    """Steps, batches and the learning-rate schedule of one training."""

    learning_rate: float = Field(1e-4, gt=0)
    """Peak, reached at the end of the warm-up."""
    min_learning_rate: float = Field(8e-5, ge=0)
    warmup_learning_rate: float = Field(1e-5, ge=0)
    warmup_steps: int = Field(200, ge=0)
    weight_decay: float = Field(1e-3, ge=0)
    """On matrices only."""
    steps: int = Field(40000, ge=1)
    """Optimiser steps T."""
    batch_size: int = Field(1, ge=1)
    """Samples of one optimiser step over all ranks and accumulation steps."""
    accumulation: int = Field(1, ge=1)
    """Micro-batches per optimiser step."""
    validate_every: int = Field(800, ge=1)
    """Optimiser steps between validations."""
    patience: int = Field(15, ge=1)
    """Validations without a better score before training stops."""
    train_rows: int | None = Field(None, ge=1)
    """A seeded subsample of train rows; null takes all."""

    @model_validator(mode="after")
    def _schedule_is_consistent(self) -> Self:
        if self.min_learning_rate > self.learning_rate:
            raise ValueError(f"min_learning_rate {self.min_learning_rate} exceeds learning_rate {self.learning_rate}")
        if self.warmup_learning_rate > self.learning_rate:
            raise ValueError(
                f"warmup_learning_rate {self.warmup_learning_rate} exceeds learning_rate {self.learning_rate}"
            )
        if self.batch_size % self.accumulation:
            raise ValueError(f"batch_size {self.batch_size} is not a multiple of accumulation {self.accumulation}")
        return self


class EngineConfig(Frozen):
    """How the training worker runs."""

    backend: Literal["deepspeed", "torch"] = "deepspeed"
    """`torch`: the same steps without DeepSpeed, in one process."""
    zero_stage: Literal[0, 1, 2, 3] = 0
    world_size: int = Field(1, ge=1)
    """Processes (GPUs, or CPU processes with gloo)."""
    threads: int | None = Field(None, ge=1)
    """CPU threads per process; null divides the cores among the processes."""
    gradient_checkpointing: bool = False
    checkpoint_every: int = Field(800, ge=1)
    """Optimiser steps between checkpoints of a training."""
    length_pool: int = Field(16, ge=1)
    """Batches that are drawn together and cut by the length of their histories, so that little is padded; 1 draws each batch by
    itself. Every sample comes once per epoch either way. Targets play no part: batches of titles of one length are batches of
    the same items, and trainings on them end worse (planted experts: AUC .527 where .570 was reached)."""
    hidden_cache_gb: float = Field(4.0, ge=0)
    """Disk that an expert's training may use (10^9 bytes) to keep the hidden states below its layers from one epoch to the
    next; 0 computes them each time. Not used with ZeRO-3, nor for models whose layers are not all alike (Gemma)."""

    @model_validator(mode="after")
    def _plain_torch_is_one_process(self) -> Self:
        if self.backend == "torch" and (self.world_size > 1 or self.zero_stage):
            raise ValueError(
                f"backend torch with zero_stage {self.zero_stage} and world_size {self.world_size}; it is one process, "
                "set backend=deepspeed"
            )
        return self


class TrainingConfig(OptimisationConfig):
    """Training of the general adapter and the projector.

    The fields inherited from `OptimisationConfig` are those of G1 (or of the joint training); `projector` holds G2's.
    """

    schedule: Literal["joint", "staged", "text"] = "staged"
    """`staged`: G1 trains LoRA on text prompts, then G2 the projector on ID prompts with LoRA frozen. `joint`: both at
    once on ID prompts. `text`: G1 alone, scored on text prompts, as TALLRec does; there are no soft tokens."""
    projector: OptimisationConfig = OptimisationConfig()
    """G2; in a joint training only its `learning_rate` counts, as the rate of the projector's parameters."""
    objective: ObjectiveConfig = ObjectiveConfig()
    prior: Literal["none", "bias", "encoder", "stacker"] = "none"
    """score = logit of this method (out of fold on train rows) + scaled LLM logit, in the loss as in the evaluation, so that
    the LLM learns what the prior cannot know. `bias` and `stacker` are the ladder's rungs of these names. `none`: the
    paper's score."""
    llm_weight: Literal["fixed", "valid"] = "fixed"
    """Factor on the LLM logit beside a prior. `fixed`: `llm.score_scale`, as in the loss. `valid`: fixed in the loss, and chosen
    at each validation by `select_by`; the best one becomes part of the trained model's score."""
    select_by: Literal["auc", "uauc", "auc/4+uauc/3", "log_loss"] = "auc/4+uauc/3"
    """The valid score by which the best checkpoint is chosen; the published one is auc/4+uauc/3."""
    valid_rows: int = Field(200, ge=1)
    """Fixed valid rows (whole users) of each validation."""
    engine: EngineConfig = EngineConfig()

    @property
    def scored_prompt(self) -> Literal["text", "id"]:
        """The prompt that a trained model is scored on."""
        return "text" if self.schedule == "text" else "id"

    @model_validator(mode="after")
    def _a_chosen_weight_needs_a_prior(self) -> Self:
        if self.llm_weight == "valid" and self.prior == "none":
            raise ValueError("llm_weight valid and prior none; the weight is that of the LLM beside a prior")
        return self

    @model_validator(mode="after")
    def _the_projector_sees_the_rows_of_the_adapter(self) -> Self:
        if self.projector.train_rows not in (None, self.train_rows):
            raise ValueError(
                f"projector.train_rows {self.projector.train_rows} differs from train_rows {self.train_rows}; G2 trains on "
                "the rows of G1"
            )
        return self
