"""Counts by hand, and the main effects against a general optimiser."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize

from thinkrec_core.errors import DataError
from thinkrec_core.evaluation.auc import auc
from thinkrec_core.evaluation.floors import TrainRows, item_mean, main_effects, popularity

TRAIN = TrainRows(np.array([1, 1, 2, 3, 3]), np.array([1, 2, 1, 1, 4]), np.array([1, 0, 1, 0, 1]))


def test_popularity_counts_train_likes_and_knows_unseen_items() -> None:
    assert popularity(TRAIN, [9, 9, 9, 9], [1, 2, 4, 8]).tolist() == [2.0, 0.0, 1.0, 0.0]


def test_item_mean_by_hand() -> None:
    share = 4 / 7  # three likes of five rows, with one like and one dislike added
    expected = [(2 + 5 * share) / 8, (0 + 5 * share) / 6, share]
    probability = 1 / (1 + np.exp(-item_mean(TRAIN, [1, 1, 1], [1, 2, 7])))
    assert probability == pytest.approx(expected)


def test_main_effects_minimise_the_penalised_loss() -> None:
    rng = np.random.default_rng(1)
    user, item = rng.integers(1, 8, 300), rng.integers(1, 6, 300)
    label = (rng.normal(size=300) + (user - 4) / 3 + (item - 3) / 4 > 0).astype(np.int64)

    def loss(x: np.ndarray) -> float:
        logit = x[0] + x[1:9][user] + x[9:][item]
        rows = np.logaddexp(0, logit) - label * logit
        anchor = np.logaddexp(0, x[0]) + np.logaddexp(0, -x[0])
        return float(rows.sum() + anchor + 1.5 / 2 * (x[1:] ** 2).sum())

    best = minimize(loss, np.zeros(15), method="BFGS", options={"gtol": 1e-7}).x
    found = main_effects(TrainRows(user, item, label), 8, 6, ridge=1.5, tolerance=1e-9)
    assert np.r_[found.mu, found.user, found.item] == pytest.approx(best, abs=1e-4)
    assert found.user[0] == 0.0


def test_main_effects_find_planted_effects_and_give_nothing_to_strangers() -> None:
    rng = np.random.default_rng(2)
    u, i = rng.normal(0, 1, 81), rng.normal(0, 1, 61)
    user, item = rng.integers(1, 81, 6000), rng.integers(1, 61, 6000)
    label = (rng.random(6000) < 1 / (1 + np.exp(-(0.4 + u[user] + i[item])))).astype(np.int64)
    train = TrainRows(user[:5000], item[:5000], label[:5000])
    found = main_effects(train, 90, 70)
    assert auc(found.user[user[5000:]] + found.item[item[5000:]], label[5000:]) > 0.75
    assert not found.user[81:].any()
    assert not found.item[61:].any()


def test_one_class_gives_finite_scores() -> None:
    train = TrainRows(np.array([1, 2]), np.array([1, 1]), np.array([1, 1]))
    for floor in (popularity, item_mean):
        assert np.isfinite(floor(train, [1, 5], [1, 6])).all()
    assert np.isfinite(main_effects(train, 3, 2).mu)


def test_bad_train_rows_are_refused() -> None:
    with pytest.raises(DataError, match="no train rows"):
        TrainRows(np.array([]), np.array([]), np.array([]))
    with pytest.raises(DataError, match=r"\(1, 2, 2\)"):
        TrainRows(np.array([1]), np.array([1, 2]), np.array([0, 1]))
    with pytest.raises(DataError, match="other than 0 and 1"):
        TrainRows(np.array([1]), np.array([1]), np.array([3]))
