"""AUC, UAUC, ranking and calibration against hand-computed values and brute force over pairs and orders."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import brier_score_loss, roc_auc_score
from sklearn.metrics import log_loss as sklearn_log_loss

from thinkrec_core.errors import DataError
from thinkrec_core.evaluation.auc import auc, uauc, user_auc
from thinkrec_core.evaluation.calibration import accuracy, brier, calibration_error, log_loss
from thinkrec_core.evaluation.ranking import ranking, user_ranking

USERS = [1, 1, 1, 1, 2, 2, 2, 3, 3, 4, 5, 5, 5]
SCORES = [0.9, 0.2, 0.6, 0.4, 0.3, 0.8, 0.5, 0.7, 0.1, 0.5, 0.9, 0.8, 0.7]
LABELS = [1, 0, 0, 1, 0, 0, 1, 1, 1, 1, 0, 0, 0]

rows = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(0, 1)), min_size=1, max_size=24)


def test_golden_auc_and_uauc() -> None:
    each = user_auc(USERS, SCORES, LABELS)
    assert auc(SCORES, LABELS) == pytest.approx(0.3809523810, abs=1e-10)
    assert dict(zip(each.users[each.defined], each.auc[each.defined], strict=True)) == {1: 0.75, 2: 0.5}
    assert each.mean == 0.625
    assert each.dropped == 3


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("hr", [0.5, 0.75, 0.75, 0.75]),
        ("ndcg", [0.5, 0.561019, 0.637663, 0.637663]),
        ("map", [0.25, 0.5, 0.583333, 0.583333]),
        ("mrr", [0.5, 0.625, 0.625, 0.625]),
    ],
)
def test_golden_ranking(name: str, expected: list[float]) -> None:
    found = ranking(USERS, SCORES, LABELS, cutoffs=(1, 2, 3, 5))
    assert [found[f"{name}@{k}"] for k in (1, 2, 3, 5)] == pytest.approx(expected, abs=1e-6)


@given(rows)
def test_auc_counts_pairs(data: list[tuple[int, int, int]]) -> None:
    users, scores, labels = (np.array(column) for column in zip(*data, strict=True))

    def by_pairs(mask: np.ndarray) -> float | None:
        liked, other = scores[mask & (labels == 1)], scores[mask & (labels == 0)]
        wins = [float(a > b) + (a == b) / 2 for a in liked for b in other]
        return sum(wins) / len(wins) if wins else None

    everyone = np.ones(len(users), dtype=bool)
    own = [value for user in np.unique(users) if (value := by_pairs(users == user)) is not None]
    assert auc(scores, labels) == pytest.approx(by_pairs(everyone))
    assert uauc(users, scores, labels) == (pytest.approx(np.mean(own)) if own else None)


def test_auc_equals_scikit_learn_with_many_ties() -> None:
    rng = np.random.default_rng(3)
    scores, labels = rng.integers(0, 40, 2000) / 7, rng.integers(0, 2, 2000)
    assert auc(scores, labels) == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)


def figures_of_order(labels: list[int], k: int) -> list[float]:
    """hr, ndcg, map, mrr of one user whose rows are in this order."""
    top, liked = labels[:k], sum(labels)
    gain = sum(label / math.log2(rank + 2) for rank, label in enumerate(top))
    ideal = sum(1 / math.log2(rank + 2) for rank in range(min(liked, k)))
    precision = sum(sum(top[: rank + 1]) / (rank + 1) for rank, label in enumerate(top) if label)
    first = next((1 / (rank + 1) for rank, label in enumerate(top) if label), 0.0)
    return [float(any(top)), gain / ideal if ideal else 0.0, precision / liked if liked else 0.0, first]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 1)), min_size=2, max_size=6), st.integers(1, 7))
def test_ties_count_as_the_mean_over_all_orders(data: list[tuple[int, int]], k: int) -> None:
    orders = [
        order for order in itertools.permutations(data) if [s for s, _ in order] == sorted([s for s, _ in data])[::-1]
    ]
    expected = np.mean([figures_of_order([label for _, label in order], k) for order in orders], axis=0)
    each = user_ranking([4] * len(data), [s for s, _ in data], [label for _, label in data], k)
    assert [each.hr[0], each.ndcg[0], each.map[0], each.mrr[0]] == pytest.approx(expected.tolist())


@given(rows, st.permutations(range(24)))
def test_row_order_changes_nothing(data: list[tuple[int, int, int]], order: list[int]) -> None:
    shuffled = [data[index] for index in order if index < len(data)]
    before, after = (ranking(*zip(*part, strict=True)) for part in (data, shuffled))
    assert before == pytest.approx(after)
    assert uauc(*zip(*data, strict=True)) == pytest.approx(uauc(*zip(*shuffled, strict=True)))


def test_users_with_one_row_are_not_ranked() -> None:
    assert ranking([1, 2], [0.1, 0.2], [1, 0], cutoffs=(1,)) == {
        "hr@1": None,
        "ndcg@1": None,
        "map@1": None,
        "mrr@1": None,
    }


def test_probability_figures_equal_scikit_learn() -> None:
    rng = np.random.default_rng(4)
    scores, labels = rng.normal(0, 3, 500), rng.integers(0, 2, 500)
    p = 1 / (1 + np.exp(-scores))
    assert log_loss(scores, labels) == pytest.approx(sklearn_log_loss(labels, p))
    assert brier(scores, labels) == pytest.approx(brier_score_loss(labels, p))
    assert accuracy(scores, labels) == pytest.approx(np.mean((p > 0.5) == labels))


def test_calibration_error_by_hand() -> None:
    # Bins .2-.3 (p .25 twice, one like: gap .25) and .9-1 (p .95 twice, both liked: gap .05), half of the rows each.
    logit = np.log(np.array([0.25, 0.25, 0.95, 0.95]) / np.array([0.75, 0.75, 0.05, 0.05]))
    assert calibration_error(logit, [1, 0, 1, 1]) == pytest.approx(0.5 * 0.25 + 0.5 * 0.05)


def test_huge_scores_stay_finite() -> None:
    assert log_loss([1000.0, -1000.0], [1, 1]) == pytest.approx(500.0)
    assert brier([1000.0, -1000.0], [1, 0]) == 0.0
    assert accuracy([0.0], [0]) == 1.0


@pytest.mark.parametrize(
    ("scores", "labels", "told"),
    [
        ([], [], "at least one row"),
        ([0.1, float("nan")], [0, 1], "nan at row 1"),
        ([0.1, float("inf")], [0, 1], "inf at row 1"),
        ([0.1], [0, 1], "one score per row"),
        ([0.1, 0.2], [0, 2], "label 2 at row 1"),
    ],
)
def test_bad_arrays_are_refused_in_one_line(scores: list[float], labels: list[int], told: str) -> None:
    for figure in (auc, log_loss, lambda s, y: uauc([1] * len(y), s, y), lambda s, y: ranking([1] * len(y), s, y)):
        with pytest.raises(DataError, match=told) as caught:
            figure(scores, labels)
        assert "\n" not in str(caught.value)


def test_one_class_is_undefined() -> None:
    assert auc([0.1, 0.2], [1, 1]) is None
    assert uauc([1, 1], [0.1, 0.2], [0, 0]) is None
