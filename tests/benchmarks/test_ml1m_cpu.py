"""The CPU study: the weight that valid chooses, what tells an echo of the prior from knowledge, and work in pieces."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.ml1m.above_floor import Clock, OutOfTime
from benchmarks.ml1m.floor import RowSignals
from benchmarks.ml1m.verdict import choose_weight, claims, details
from thinkrec_core.encoders.stacker import BLOCK, FACTS
from thinkrec_core.recllm.prompt import Slot
from thinkrec_core.recllm.selection import RATIOS

ROWS = 3000


def world(known_by_prior: float, known_by_llm: float) -> tuple[np.ndarray, ...]:
    """Users, labels, and logits of a prior and an LLM that each see a part of their own of what decides the label."""
    draw = np.random.default_rng(5)
    user = draw.integers(0, 60, ROWS)
    one, other = draw.normal(size=ROWS), draw.normal(size=ROWS)
    chance = 1 / (1 + np.exp(-(known_by_prior * one + known_by_llm * other)))
    return user, (draw.random(ROWS) < chance).astype(np.int64), known_by_prior * one, other


def test_valid_gives_a_telling_llm_more_weight_than_noise() -> None:
    user, label, prior, llm = world(1.0, 1.0)
    assert choose_weight(user, label, prior, llm) * llm.std() == pytest.approx(max(RATIOS) * prior.std())
    user, label, prior, noise = world(1.0, 0.0)
    assert choose_weight(user, label, prior, noise) * noise.std() == pytest.approx(min(RATIOS) * prior.std())


def test_an_echo_of_the_prior_loses_by_a_shuffle_over_all_rows_and_not_among_rows_with_its_prior() -> None:
    user, label, prior, _ = world(1.0, 0.0)
    warm, echo = np.ones(ROWS, bool), 0.5 * prior
    found = claims(user, label, prior, echo)
    assert found["auc"] == pytest.approx(found["floor_auc"])
    assert found["llm_std_ratio"] == pytest.approx(0.5)
    assert found["shuffled_loss_ci"][0] > 0
    told = details(user, label, warm, {"floor": prior, "model": prior + echo}, prior, echo)
    assert told["echo_ci"][0] < 0.001
    user, label, prior, llm = world(1.0, 1.0)
    told = details(user, label, warm, {"floor": prior, "model": prior + llm}, prior, llm)
    assert told["echo_ci"][0] > 0.01
    assert told["rungs"]["model"]["versus_floor"]["auc"]["ci"][0] > 0


def test_the_users_slot_holds_nothing_of_the_target() -> None:
    features = np.arange(1, 1 + FACTS + 2 * BLOCK, dtype=np.float32)[None]
    signals = RowSignals(features)
    user = signals.slot_input(Slot(0, "user", 1), features[0])
    # By hand: facts are columns 0-5; of a block, similarity to the target (2, 3, 11, 12) and what it weights (8-10, 13-15).
    shared = [6, 7, 10, 11, 12, 13, 22, 23, 26, 27, 28, 29]
    np.testing.assert_array_equal(np.flatnonzero(user), shared)
    np.testing.assert_array_equal(signals.slot_input(Slot(0, "target", 2), features[0]), features[0])


def test_features_of_another_version_are_refused() -> None:
    with pytest.raises(ValueError, match="26 features"):
        RowSignals(np.zeros((3, 26), np.float32))


def test_seconds_add_up_over_calls_and_a_call_ends_after_its_work_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "seconds.json"
    path.write_text("100.0")
    clock = Clock(path, deadline=float("inf"))
    clock.tick()
    assert float(path.read_text()) == clock.seconds > 100
    with pytest.raises(OutOfTime):
        Clock(path, deadline=0.0).tick()
    assert float(path.read_text()) > clock.seconds
