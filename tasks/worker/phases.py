"""The phases of each kind of training: what is trained, on which prompt, for how long (spec of the method, section 3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tasks.worker.job import TrainingJob
from thinkrec_core.config.training import OptimisationConfig
from thinkrec_core.recllm.prompt import PromptKind
from thinkrec_core.recllm.schedule import Schedule


@dataclass(frozen=True)
class PhasePlan:
    """One phase of a training."""

    name: str
    prompt: PromptKind
    lora: bool
    projector: bool
    optimisation: OptimisationConfig
    schedules: dict[str, Schedule]
    reasoning_probability: float
    last_layers: int | None = None
    """Train LoRA of this many last layers only; None trains all."""


def phases_of(job: TrainingJob) -> Sequence[PhasePlan]:
    """The phases of `job`, in order.

    general, staged: G1 (LoRA, text prompt), G2 (projector, ID prompt). general, joint: both at once on the ID prompt.
    general, text: G1 alone.
    warm_start: as staged, on recommendation batches only. expert: E (LoRA of the last layers, ID prompt).
    """
    training, share = job.config.training, job.config.training.objective.reasoning_probability
    if job.kind == "expert":
        experts = job.config.experts
        rates = {"lora": _schedule(experts.training)}
        return [PhasePlan("expert", experts.prompt, True, False, experts.training, rates, share, experts.last_layers)]
    if job.kind == "warm_start":
        lora = projector = job.config.warm_start
        share = 0.0
    else:
        lora, projector = training, training.projector
    if job.kind == "general" and training.schedule == "joint":
        rates = {"lora": _schedule(lora), "projector": _schedule(lora, projector.learning_rate / lora.learning_rate)}
        return [PhasePlan("joint", "id", True, True, lora, rates, share)]
    text = PhasePlan("lora", "text", True, False, lora, {"lora": _schedule(lora)}, share)
    if job.kind == "general" and training.schedule == "text":
        return [text]
    return [
        text,
        PhasePlan("projector", "id", False, True, projector, {"projector": _schedule(projector)}, share),
    ]


def _schedule(optimisation: OptimisationConfig, factor: float = 1.0) -> Schedule:
    return Schedule(
        peak=optimisation.learning_rate * factor,
        minimum=optimisation.min_learning_rate * factor,
        warmup_from=optimisation.warmup_learning_rate * factor,
        warmup_steps=optimisation.warmup_steps,
    )
