from __future__ import annotations

import math

import numpy as np
import pytest

from thinkrec_core.evaluation.drift import drift_report, stability, window_profile

OWN = {"auc": 0.8, "auc_ci": [0.75, 0.85], "uauc": 0.7}


def profile(shift: int = 0, likes: float = 0.5, seed: int = 0) -> dict[str, object]:
    draw = np.random.default_rng(seed)
    lengths = draw.integers(0, 8, 400) + shift
    return window_profile(
        users=draw.integers(1, 30, 400),
        items=draw.integers(1, 50, 400),
        labels=(draw.random(400) < likes).astype(np.int64),
        history_lengths=lengths,
        history_likes=lengths // 2,
        train_items=draw.integers(1, 50, 1000),
    )


def report(old: object, new: object, scores: np.ndarray | None = None, known: float = 1.0) -> dict[str, object]:
    draw = np.random.default_rng(5)
    labels, users = draw.integers(0, 2, 400), draw.integers(1, 30, 400)
    values = labels + draw.normal(size=400) * 0.5 if scores is None else scores
    flags = draw.random(400) < known
    return drift_report(old, new, flags, flags, (users, labels, values), OWN)  # type: ignore[arg-type]


def test_counts_are_binned_by_powers_of_two() -> None:
    found = window_profile(
        users=np.array([1, 1, 1, 2]),
        items=np.array([1, 2, 3, 3]),
        labels=np.array([1, 0, 0, 0]),
        history_lengths=np.array([0, 1, 3, 4]),
        history_likes=np.array([0, 1, 0, 2]),
        train_items=np.array([1, 1, 3]),
    )
    assert (found["rows"], found["users"], found["items"], found["label_rate"]) == (4, 2, 3, 0.25)
    assert found["counts"]["history_length"][:4] == [1, 1, 1, 1]
    assert found["counts"]["history_liked"] == [1, 0, 0, 0, 0, 1, 0, 0, 0, 1]  # a history without items has no share
    assert found["counts"]["item_popularity"][:3] == [1, 2, 1]
    assert found["counts"]["rows_per_user"][:3] == [0, 1, 1]


def test_the_index_is_that_of_its_formula() -> None:
    p, q = np.array([60.5, 40.5]) / 101, np.array([20.5, 80.5]) / 101
    expected = sum((a - b) * math.log(a / b) for a, b in zip(q, p, strict=True))
    assert stability([60, 40, 0], [20, 80, 0]) == pytest.approx(expected)
    assert stability([6, 4], [6, 4]) == 0.0
    assert stability([1, 2], [0, 0]) is None


def test_a_window_like_the_champions_warns_of_nothing() -> None:
    found = report(profile(seed=1), profile(seed=2))
    assert found["warnings"] == []
    assert all(value < 0.1 for value in found["stability"].values())  # type: ignore[union-attr]


def test_other_histories_unknown_users_and_a_champion_that_has_become_worse_are_told() -> None:
    found = report(profile(), profile(shift=20), scores=np.zeros(400), known=0.5)
    told = " ".join(found["warnings"])  # type: ignore[arg-type]
    for words in ("history length", "of users that", "of items that", "AUC 0.5000 on the new window is below"):
        assert words in told


def test_a_champion_without_a_profile_or_without_any_known_item_is_reported_as_far_as_it_goes() -> None:
    none = np.zeros(0, np.int64)
    found = drift_report({}, profile(), np.zeros(4, bool), np.zeros(4, bool), (none, none, np.zeros(0)), {})  # type: ignore[arg-type]
    assert found["stability"] == {}
    assert found["champion"]["auc"] is None
    assert found["new_item_rows"] == 1.0
