"""The loop over optimiser steps with a plain torch engine: shares, schedules, selection, early stop, resume, errors."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pytest
import torch

from tests.tiny_recllm import Tiny, tiny_recllm
from thinkrec_core.errors import TrainingError
from thinkrec_core.recllm.adapters import train_only
from thinkrec_core.recllm.examples import Batch, BatchKind, Example
from thinkrec_core.recllm.model import LossSums
from thinkrec_core.recllm.objective import ObjectiveWeights
from thinkrec_core.recllm.plan import BatchPlan
from thinkrec_core.recllm.schedule import Schedule
from thinkrec_core.recllm.training import Hooks, LoopState, Phase, run_phase

RATES = {"lora": Schedule(1e-2, 0.0, 0.0, 2), "projector": Schedule(1e-3, 1e-3, 1e-3, 0)}
REASONS = [3, 12, 25]
SEED = 16
"""Draws reasoning for step 0 and once more after step 2 of a phase of six."""


class PlainEngine:
    """One rank without DeepSpeed: gradients add up in the parameters, AdamW applies them."""

    device = torch.device("cpu")

    def __init__(self, tiny: Tiny, accumulation: int = 1, rank: int = 0, world_size: int = 1) -> None:
        self.model, self.accumulation, self.rank, self.world_size = tiny.model, accumulation, rank, world_size
        train_only(self.model.lm, lora=True)  # type: ignore[arg-type]
        named = {"projector": [], "lora": []}  # type: dict[str, list[torch.nn.Parameter]]
        for name, parameter in self.model.named_parameters():
            if parameter.requires_grad:
                named["projector" if name.startswith("projector.") else "lora"].append(parameter)
        groups: list[dict[str, Any]] = [{"name": name, "params": parameters} for name, parameters in named.items()]
        self.optimizer = torch.optim.AdamW(groups, lr=0.0)
        self.rates: list[dict[str, float]] = []
        self.gradients: list[torch.Tensor] = []

    def losses(self, batch: Batch) -> LossSums:
        return self.model(batch)

    def backward(self, share: torch.Tensor) -> None:
        share.backward()

    def step(self, learning_rates: Mapping[str, float]) -> None:
        self.rates.append(dict(learning_rates))
        parameters = [parameter for group in self.optimizer.param_groups for parameter in group["params"]]
        self.gradients.append(torch.cat([parameter.grad.flatten().clone() for parameter in parameters]))
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rates[group["name"]]
        self.optimizer.step()
        self.optimizer.zero_grad()

    def total(self, values: torch.Tensor) -> torch.Tensor:
        return values


class Log:
    """What the loop told its caller."""

    def __init__(self, on_checkpoint: Callable[[LoopState], None] = lambda _: None) -> None:
        self.records: list[dict[str, Any]] = []
        self.best: list[int] = []
        self.checkpoints: list[LoopState] = []
        self._also = on_checkpoint

    @property
    def hooks(self) -> Hooks:
        return Hooks(self.records.append, lambda state: self.best.append(state.step), self._checkpoint)

    @property
    def steps(self) -> list[dict[str, Any]]:
        return [record for record in self.records if "valid" not in record]

    def _checkpoint(self, state: LoopState) -> None:
        self.checkpoints.append(state)
        self._also(state)


def train(
    engine: PlainEngine,
    tiny: Tiny,
    log: Log,
    scores: Sequence[float] = (0.5,) * 99,
    state: LoopState | None = None,
    steps: int = 6,
    **changes: Any,
) -> LoopState:
    """Run a phase whose n-th validation gives `scores[n]`."""
    factory = tiny.factory()

    def make(row: int, kind: BatchKind) -> Example:
        return factory.make(row, "id", f"Reason {row} of many." if kind == "reasoning" else None)

    settings = {"validate_every": 2, "checkpoint_every": 3, "patience": 99} | changes
    phase = Phase(
        name="joint",
        seed=SEED,
        plan=BatchPlan(SEED, "joint", range(50), REASONS, 4, steps, 0.4),
        weights=ObjectiveWeights(),
        schedules=RATES,
        **settings,
    )
    given = iter(scores)
    return run_phase(
        engine, phase, make, tiny.pieces.pad_id, 1, lambda: {"score": next(given)}, log.hooks, state or LoopState()
    )


def weights(tiny: Tiny) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in tiny.model.named_parameters() if value.requires_grad}


def test_each_group_follows_its_schedule_and_is_logged() -> None:
    tiny, log = tiny_recllm(), Log()
    engine = PlainEngine(tiny)
    train(engine, tiny, log)
    for step, (rates, record) in enumerate(zip(engine.rates, log.steps, strict=True)):
        assert rates == {"lora": RATES["lora"].at(step, 6), "projector": 1e-3}
        assert (record["phase"], record["step"], record["learning_rate_lora"]) == ("joint", step, rates["lora"])
    assert {record["kind"] for record in log.steps} == {"recommendation", "reasoning"}


def test_accumulation_changes_nothing() -> None:
    logs, gradients = [], []
    for accumulation in (1, 2, 4):
        tiny, log = tiny_recllm(), Log()
        engine = PlainEngine(tiny, accumulation)
        train(engine, tiny, log)
        logs.append([[record[name] for name in ("loss", "bce", "ce")] for record in log.steps])
        gradients.append(engine.gradients[0])
    np.testing.assert_allclose(logs[1], logs[0], atol=1e-4)
    np.testing.assert_allclose(logs[2], logs[0], atol=1e-4)
    torch.testing.assert_close(gradients[1], gradients[0], atol=1e-6, rtol=1e-4)
    torch.testing.assert_close(gradients[2], gradients[0], atol=1e-6, rtol=1e-4)


def test_the_shares_of_two_ranks_are_the_whole_gradient() -> None:
    parts = []
    for rank, size in ((0, 1), (0, 2), (1, 2)):
        tiny = tiny_recllm()
        engine = PlainEngine(tiny, 1, rank, size)
        train(engine, tiny, Log(), steps=1)
        parts.append(engine.gradients[0])
    torch.testing.assert_close(parts[1] + parts[2], parts[0], atol=1e-6, rtol=1e-4)


def test_the_logged_loss_is_the_weighted_sum_of_its_parts_and_falls() -> None:
    tiny, log = tiny_recllm(), Log()
    train(PlainEngine(tiny), tiny, log, steps=60)
    for record in log.steps:
        bce, ce = (0.9, 0.1) if record["kind"] == "recommendation" else (0.1, 0.9)
        assert record["loss"] == pytest.approx(bce * record["bce"] + ce * record["ce"], abs=1e-5)
    for kind in ("recommendation", "reasoning"):
        losses = [record["loss"] for record in log.steps if record["kind"] == kind]
        assert np.mean(losses[-5:]) < np.mean(losses[:5])


def test_the_best_score_is_kept_and_ties_keep_the_earlier() -> None:
    tiny, log = tiny_recllm(), Log()
    state = train(PlainEngine(tiny), tiny, log, scores=(0.6, 0.7, 0.7), steps=6)
    assert log.best == [2, 4]
    assert (state.best_step, state.best_score, state.stale) == (4, 0.7, 1)
    assert [record["step"] for record in log.records if "valid" in record] == [2, 4, 6]


def test_patience_ends_the_phase_with_a_checkpoint() -> None:
    tiny, log = tiny_recllm(), Log()
    engine = PlainEngine(tiny)
    state = train(engine, tiny, log, scores=(0.7, 0.6, 0.5, 0.9), steps=20, patience=2, checkpoint_every=100)
    assert (state.step, state.finished, state.best_step) == (6, True, 2)
    assert len(engine.rates) == 6
    assert log.checkpoints == [state]
    assert train(engine, tiny, Log(), state=state, steps=20) == state
    assert len(engine.rates) == 6


def test_the_last_step_is_always_validated_and_checkpointed() -> None:
    tiny, log = tiny_recllm(), Log()
    state = train(PlainEngine(tiny), tiny, log, steps=5, validate_every=4, checkpoint_every=4)
    assert [record["step"] for record in log.records if "valid" in record] == [4, 5]
    assert [at.step for at in log.checkpoints] == [4, 5]
    assert state == log.checkpoints[-1]


def test_a_phase_continues_to_the_same_bits() -> None:
    whole = tiny_recllm()
    whole.model.train()  # dropout takes part
    train(PlainEngine(whole), whole, Log())

    broken = tiny_recllm()
    broken.model.train()
    engine = PlainEngine(broken)
    kept: list[Any] = []
    log = Log(lambda state: kept.append((state, weights(broken), _copy(engine.optimizer.state_dict()))))
    train(engine, broken, log)
    state, values, optimizer = kept[0]
    assert state.step == 3

    resumed = tiny_recllm()
    resumed.model.train()
    engine = PlainEngine(resumed)
    resumed.model.load_state_dict(values, strict=False)
    engine.optimizer.load_state_dict(optimizer)
    torch.manual_seed(999)  # whatever the process drew before
    train(engine, resumed, Log(), state=LoopState.from_dict(state.as_dict()))
    expected, got = weights(whole), weights(resumed)
    assert all(torch.equal(expected[name], got[name]) for name in expected)


def test_loop_state_survives_json() -> None:
    for state in (LoopState(), LoopState(7, 0.25, 3, 2, True)):
        assert LoopState.from_dict(state.as_dict()) == state


def test_a_loss_that_is_not_finite_stops_before_the_weights_are_touched() -> None:
    tiny, log = tiny_recllm(), Log()
    with torch.no_grad():
        tiny.model.projector.outer.bias[0] = torch.nan
    engine = PlainEngine(tiny)
    before = weights(tiny)
    with pytest.raises(TrainingError, match="loss is nan at step 0 of phase joint") as caught:
        train(engine, tiny, log)
    assert "\n" not in str(caught.value)
    assert engine.rates == []
    assert log.checkpoints == []
    assert all(torch.equal(value, weights(tiny)[name]) for name, value in before.items() if "lora_" in name)


def _copy(state: dict[str, Any]) -> dict[str, Any]:
    return {
        "state": {k: {n: v.clone() for n, v in values.items()} for k, values in state["state"].items()},
        "param_groups": [dict(group) for group in state["param_groups"]],
    }
