"""One training phase: the loop over optimiser steps, whatever engine does the backward pass.

The loop holds no hidden state: kind, rows, dropout and learning rate are functions of the seed and the step, so a phase that
continues from (weights, optimiser, LoopState) takes exactly the steps that it would have taken uninterrupted.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Protocol

import torch

from thinkrec_core.errors import TrainingError
from thinkrec_core.recllm.examples import Batch, BatchKind, Example, collate
from thinkrec_core.recllm.model import LossSums
from thinkrec_core.recllm.objective import ObjectiveWeights, batch_loss
from thinkrec_core.recllm.plan import BatchPlan
from thinkrec_core.recllm.schedule import Schedule
from thinkrec_core.seeds import derived_seed


class Engine(Protocol):
    """What runs forward, backward and the optimiser: DeepSpeed, or plain torch."""

    rank: int
    world_size: int
    accumulation: int
    device: torch.device

    def losses(self, batch: Batch) -> LossSums:
        """Forward."""

    def backward(self, share: torch.Tensor) -> None:
        """Add the gradient of this micro-batch's share of the global loss."""

    def step(self, learning_rates: Mapping[str, float]) -> None:
        """Apply the gradients; `learning_rates` by parameter group ("lora", "projector")."""

    def total(self, values: torch.Tensor) -> torch.Tensor:
        """Sum of `values` over all ranks, for the log."""


class LowerStates(Protocol):
    """Gives the hidden states after the lowest `depth` layers, computed or kept."""

    depth: int

    def __call__(self, examples: Sequence[Example], kind: BatchKind, batch: Batch) -> torch.Tensor:
        """(B, T, H) of `batch`, which was made of `examples`."""


@dataclass(frozen=True)
class Phase:
    """What one phase trains and how."""

    name: str
    seed: int
    plan: BatchPlan
    weights: ObjectiveWeights
    schedules: Mapping[str, Schedule]
    """By parameter group; only the groups that train."""
    validate_every: int
    checkpoint_every: int
    patience: int


@dataclass(frozen=True)
class LoopState:
    """Where a phase stands between two steps."""

    step: int = 0
    best_score: float = -math.inf
    best_step: int = 0
    stale: int = 0
    """Validations since the best one."""
    finished: bool = False

    def as_dict(self) -> dict[str, Any]:
        """JSON values (an unset best score is null)."""
        values = asdict(self)
        values["best_score"] = None if math.isinf(self.best_score) else self.best_score
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> LoopState:
        """The inverse of `as_dict`."""
        best = values["best_score"]
        return cls(**{**values, "best_score": -math.inf if best is None else float(best)})


@dataclass(frozen=True)
class Hooks:
    """What the loop tells its caller."""

    on_record: Callable[[dict[str, Any]], None]
    """A training or validation record, for the log."""
    on_best: Callable[[LoopState], None]
    """The weights of this moment are the best so far."""
    on_checkpoint: Callable[[LoopState], None]
    """The weights, the optimiser and this state belong together."""


def run_phase(
    engine: Engine,
    phase: Phase,
    make: Callable[[int, BatchKind], Example],
    pad_id: int,
    n_tokens: int,
    validate: Callable[[], dict[str, float | None]],
    hooks: Hooks,
    state: LoopState,
    lower: LowerStates | None = None,
) -> LoopState:
    """Train from `state` to the end of the phase; returns the final state.

    Args:
        make: the example of a row for a batch kind.
        validate: figures on the fixed valid rows, with "score" the one to maximise.
        lower: hidden states below the trained layers; None runs every layer.

    Raises:
        TrainingError: a loss is not finite.
    """
    total = phase.plan.steps
    while state.step < total and not state.finished:
        step = state.step
        kind = phase.plan.kind(step)
        examples = [make(row, kind) for row in phase.plan.rows(step)]
        rates = {group: schedule.at(step, total) for group, schedule in phase.schedules.items()}
        start = time.perf_counter()
        parts = _step(engine, phase, step, kind, examples, pad_id, n_tokens, rates, lower)
        seconds = time.perf_counter() - start
        tokens = sum(len(example.prompt.ids) + len(example.answer.ids) - 1 for example in examples)
        record = {"phase": phase.name, "step": step, "kind": kind, **parts}
        record |= {f"learning_rate_{group}": rate for group, rate in rates.items()}
        record["learning_rate"] = next(iter(rates.values()))
        speed = {"samples_per_second": len(examples) / seconds, "tokens_per_second": tokens / seconds}
        hooks.on_record({**record, "speed": speed})
        state = replace(state, step=step + 1)
        if state.step % phase.validate_every == 0 or state.step == total:
            state = _validated(phase, validate, hooks, state)
        if state.step % phase.checkpoint_every == 0 or state.step == total or state.finished:
            hooks.on_checkpoint(state)
    return state


def _step(
    engine: Engine,
    phase: Phase,
    step: int,
    kind: BatchKind,
    examples: Sequence[Example],
    pad_id: int,
    n_tokens: int,
    rates: Mapping[str, float],
    lower: LowerStates | None,
) -> dict[str, float]:
    # Dropout draws from torch's global generator: seeded per step and rank, a resumed step drops the same units.
    torch.manual_seed(derived_seed(phase.seed, phase.name, "dropout", step, engine.rank))
    answer_tokens = sum(len(example.answer.ids) for example in examples)
    logged = torch.zeros(3, dtype=torch.float64)
    for micro in range(engine.accumulation):
        part = examples[phase.plan.share(step, engine.rank, engine.world_size, micro, engine.accumulation)]
        batch = collate(part, pad_id, n_tokens).to(engine.device)
        if lower is not None:
            batch = replace(batch, lower_BTH=lower(part, kind, batch), lower_depth=lower.depth)
        sums = engine.losses(batch)
        share = batch_loss(sums, kind, phase.weights, len(examples), answer_tokens)
        engine.backward(share)
        values = torch.stack([share.detach(), sums.bce.detach() / len(examples), sums.ce.detach() / answer_tokens])
        logged += values.double().cpu()
    loss, bce, ce = engine.total(logged).tolist()
    if not math.isfinite(loss):
        raise TrainingError(
            f"loss is {loss} at step {step} of phase {phase.name}",
            "a finite loss",
            "lower the learning rate, or look for extreme values in the data; the last checkpoint is kept",
        )
    engine.step(rates)
    return {"loss": loss, "bce": bce, "ce": ce}


def _validated(
    phase: Phase, validate: Callable[[], dict[str, float | None]], hooks: Hooks, state: LoopState
) -> LoopState:
    figures = validate()
    hooks.on_record({"phase": phase.name, "step": state.step, "valid": figures})
    score = figures["score"]
    assert score is not None
    if score > state.best_score:
        state = replace(state, best_score=score, best_step=state.step, stale=0)
        hooks.on_best(state)
        return state
    stale = state.stale + 1
    return replace(state, stale=stale, finished=stale >= phase.patience)
