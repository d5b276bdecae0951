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


def bucketed(rows: int, batch: int, pool: int, steps: int = 60) -> tuple[BatchPlan, np.ndarray]:
    """Rows 0..rows-1 and their lengths."""
    lengths = np.random.default_rng(3).integers(20, 200, rows)
    return BatchPlan(1, "g", range(rows), [], batch, steps, 0.0, {"recommendation": lengths.tolist()}, pool), lengths


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


@given(rows=st.integers(1, 70), batch=st.integers(1, 9), pool=st.integers(1, 5))
def test_batches_by_length_still_cover_every_row_once(rows: int, batch: int, pool: int) -> None:
    made, _ = bucketed(rows, batch, pool)
    seen = [row for step in range(made.steps) for row in made.rows(step)]
    assert len(seen) == made.steps * batch
    for start in range(0, len(seen) - rows + 1, rows):
        assert sorted(seen[start : start + rows]) == list(range(rows))


@pytest.mark.parametrize("rows", [320, 323])
def test_batches_by_length_hold_like_lengths_in_a_drawn_order(rows: int) -> None:
    (made, lengths), (plain, _) = bucketed(rows, 8, 10), bucketed(rows, 8, 1)
    spread = [np.ptp(lengths[made.rows(step)]) for step in range(60)]
    # 80 rows of 20..199 tokens: a sorted batch spans a tenth of them. The batch across two epochs is as drawn.
    assert np.median(spread) < 30 < 120 < np.median([np.ptp(lengths[plain.rows(step)]) for step in range(60)])
    means = [lengths[made.rows(step)].mean() for step in range(10)]
    assert means != sorted(means)
    # The pool holds the rows that the drawn batches would have held: what is learnt from is the same.
    first = [sorted(row for step in range(10) for row in each.rows(step)) for each in (made, plain)]
    assert first[0] == first[1]
    assert [made.rows(step) for step in range(60)] != [bucketed(rows, 8, 9)[0].rows(step) for step in range(60)]


def test_a_step_of_batches_by_length_needs_no_earlier_step() -> None:
    whole = [bucketed(101, 8, 3)[0].rows(step) for step in range(60)]
    made, _ = bucketed(101, 8, 3)
    assert [made.rows(step) for step in reversed(range(60))] == whole[::-1]


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
