"""Batches as a pure function of seed and step."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from thinkrec_core.recllm.plan import BatchPlan

RECOMMENDATION, REASONING = list(range(100, 150)), [3, 5, 7, 11, 13]


def plan(seed: int = 1, phase: str = "g", steps: int = 400, batch: int = 10, chance: float = 0.2) -> BatchPlan:
    return BatchPlan(seed, phase, RECOMMENDATION, REASONING, batch, steps, chance)


def everything(made: BatchPlan) -> list[tuple[str, list[int]]]:
    return [(made.kind(step), made.rows(step)) for step in range(made.steps)]


def test_steps_do_not_depend_on_the_order_they_are_asked_for() -> None:
    whole, late = everything(plan()), plan()
    for step in np.random.default_rng(0).permutation(400):
        assert (late.kind(step), late.rows(step)) == whole[step]


def test_seed_and_phase_change_the_draws() -> None:
    assert everything(plan()) != everything(plan(seed=2))
    assert everything(plan()) != everything(plan(phase="h"))


def test_every_epoch_covers_every_row_once() -> None:
    made = plan()
    for kind, rows in (("recommendation", RECOMMENDATION), ("reasoning", REASONING)):
        seen = [row for step in range(made.steps) if made.kind(step) == kind for row in made.rows(step)]
        epochs = [seen[start : start + len(rows)] for start in range(0, len(seen) - len(rows) + 1, len(rows))]
        assert len(epochs) > 5
        assert all(sorted(epoch) == rows for epoch in epochs)
        assert len({tuple(epoch) for epoch in epochs}) > 1


def test_a_fifth_of_the_steps_is_reasoning() -> None:
    made = plan(steps=20_000)
    kinds = Counter(made.kind(step) for step in range(20_000))
    # Five standard deviations of a binomial share.
    assert kinds["reasoning"] / 20_000 == pytest.approx(0.2, abs=5 * (0.2 * 0.8 / 20_000) ** 0.5)


@pytest.mark.parametrize(("reasoning", "chance"), [([], 1.0), (REASONING, 0.0)])
def test_no_reasoning_batches_without_rows_or_chance(reasoning: list[int], chance: float) -> None:
    made = BatchPlan(1, "g", RECOMMENDATION, reasoning, 4, 50, chance)
    assert {made.kind(step) for step in range(50)} == {"recommendation"}


@given(world=st.integers(1, 4), accumulation=st.integers(1, 4), each=st.integers(1, 3))
def test_shares_partition_the_batch(world: int, accumulation: int, each: int) -> None:
    made = plan(batch=world * accumulation * each, steps=1)
    places = list(range(made.batch_size))
    parts = [
        places[made.share(0, rank, world, micro, accumulation)]
        for rank in range(world)
        for micro in range(accumulation)
    ]
    assert all(len(part) == each for part in parts)
    assert sorted(place for part in parts for place in part) == places
