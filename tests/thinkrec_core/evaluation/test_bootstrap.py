"""Weights against copied rows, intervals against theory, and the p-value's limits."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thinkrec_core.evaluation.auc import auc, user_auc
from thinkrec_core.evaluation.bootstrap import Ratio, WeightedAUC, interval, p_value, user_weights

rows = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 4), st.integers(0, 1)), min_size=2, max_size=20)


@settings(deadline=None)
@given(rows, st.lists(st.integers(0, 3), min_size=4, max_size=4))
def test_weighted_auc_equals_the_auc_of_copied_rows(data: list[tuple[int, int, int]], weight: list[int]) -> None:
    user, score, label = (np.array(column) for column in zip(*data, strict=True))
    times = np.array(weight)[user]
    found = WeightedAUC(user, score.astype(float), label)(np.array([weight], dtype=float))[0]
    copied = np.repeat(label, times)
    expected = auc(np.repeat(score, times), copied) if copied.size else None
    assert np.isnan(found) if expected is None else found == pytest.approx(expected)


def test_ratio_equals_the_mean_over_drawn_users() -> None:
    mean_of_defined = Ratio(np.array([0.2, 0.9, 0.0]), np.array([1.0, 1.0, 0.0]))
    draws = mean_of_defined(np.array([[1.0, 1, 1], [3, 0, 0], [1, 2, 0], [0, 0, 3]]))
    assert mean_of_defined.value == pytest.approx(0.55)
    assert draws[:3] == pytest.approx([0.55, 0.2, 2.0 / 3])
    assert np.isnan(draws[3])


def test_weights_are_whole_draws_of_as_many_users() -> None:
    blocks = list(user_weights(users=7, rows=1_000_000, resamples=5, generator=np.random.default_rng(1)))
    weights = np.concatenate(blocks)
    assert [len(block) for block in blocks] == [2, 2, 1]
    assert weights.sum(axis=1).tolist() == [7.0] * 5
    assert np.array_equal(weights, np.round(weights))


def test_interval_of_a_mean_has_the_width_of_theory() -> None:
    rng = np.random.default_rng(2)
    values = rng.normal(0.6, 0.1, 400)
    mean = Ratio(values, np.ones(400))
    low, high = interval(np.concatenate([mean(w) for w in user_weights(400, 400, 4000, rng)]))  # type: ignore[misc]
    error = values.std() / np.sqrt(400)
    assert low == pytest.approx(values.mean() - 1.96 * error, abs=0.15 * error)
    assert high == pytest.approx(values.mean() + 1.96 * error, abs=0.15 * error)


def test_intervals_cover_the_truth_about_as_often_as_they_say() -> None:
    rng = np.random.default_rng(5)
    hits = 0
    for _ in range(200):
        # Liked rows score one standard deviation higher, so the true AUC is Phi(1 / sqrt 2).
        user, label = np.repeat(np.arange(60), 4), np.tile([0, 1, 0, 1], 60)
        score = rng.normal(label, 1.0)
        figure = WeightedAUC(user, score, label)
        bounds = interval(np.concatenate([figure(w) for w in user_weights(60, 240, 200, rng)]))
        assert bounds is not None
        hits += bounds[0] <= 0.7602499 <= bounds[1]
    assert 0.88 <= hits / 200 <= 0.99


def test_undefined_draws() -> None:
    assert interval([np.nan, np.nan, np.nan, 0.5]) is None
    assert interval([]) is None
    assert interval([np.nan, 0.5, 0.5]) == [0.5, 0.5]
    assert p_value([np.nan]) is None


def test_p_value_limits() -> None:
    assert p_value([0.1] * 999) == pytest.approx(2 / 1000)
    assert p_value([-0.1] * 999) == pytest.approx(2 / 1000)
    assert p_value([0.0] * 10) == 1.0
    assert p_value([0.1, -0.1] * 50) == 1.0


def test_user_auc_and_weighted_auc_agree_on_one_user() -> None:
    score, label = np.array([0.3, 0.3, 0.1, 0.9]), np.array([1, 0, 0, 1])
    weighted = WeightedAUC(np.zeros(4, dtype=int), score, label)(np.array([[1.0]]))
    assert weighted[0] == user_auc(np.zeros(4), score, label).auc[0] == 0.875
