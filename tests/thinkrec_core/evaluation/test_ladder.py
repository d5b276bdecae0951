"""The ladder as a whole: its figures, its pairing, undefined values, speed, and the choice of test rows."""

from __future__ import annotations

import json
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from thinkrec_core.errors import DataError
from thinkrec_core.evaluation.auc import auc, uauc
from thinkrec_core.evaluation.ladder import evaluate_ladder, pick_test_rows
from thinkrec_core.seeds import generator


def sample(rows: int, users: int, seed: int = 1) -> tuple[np.ndarray, np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    rng = np.random.default_rng(seed)
    owner, label = rng.integers(1, users + 1, rows), rng.integers(0, 2, rows)
    scores = {
        "popularity": rng.integers(0, 50, rows),
        "bias": rng.normal(label * 0.5, 1.0),
        "good": rng.normal(label * 3.0, 1.0),
    }
    return owner, label, rng.random(rows) < 0.6, scores


def test_figures_intervals_and_differences() -> None:
    owner, label, warm, scores = sample(600, 60)
    found = evaluate_ladder(owner, label, warm, scores, "bias", 300, generator(1, "bootstrap"))
    good, bias = found["rungs"]["good"], found["rungs"]["bias"]
    assert (found["rows"], found["users"], found["positives"]) == (600, 60, int(label.sum()))
    assert found["users_uauc"] + found["users_dropped"] == 60
    assert found["warm_rows"] + found["cold_rows"] == 600
    assert good["auc"] == auc(scores["good"], label)
    assert good["uauc"] == uauc(owner, scores["good"], label)
    assert good["warm"]["auc"] == auc(scores["good"][warm], label[warm])
    assert good["cold"]["rows"] == int((~warm).sum())
    for figure in ("auc", "uauc", "ndcg@5", "map@5", "log_loss"):
        low, high = good[f"{figure}_ci"]
        assert low < good[figure] < high
    versus = good["versus_floor"]["auc"]
    assert versus["difference"] == pytest.approx(good["auc"] - bias["auc"])
    assert versus["ci"][0] > 0
    assert versus["p"] == pytest.approx(2 / 301)


def test_the_floor_against_itself_is_exactly_no_difference() -> None:
    owner, label, warm, scores = sample(100, 12)
    found = evaluate_ladder(owner, label, warm, scores, "bias", 50, generator(1, "bootstrap"))
    assert found["rungs"]["bias"]["versus_floor"]["auc"] == {"difference": 0.0, "ci": [0.0, 0.0], "p": 1.0}


def test_counts_have_no_probability_figures() -> None:
    owner, label, warm, scores = sample(100, 12)
    rung = evaluate_ladder(owner, label, warm, scores, "bias", 20, generator(1, "b"))["rungs"]["popularity"]
    assert {rung[name] for name in ("log_loss", "log_loss_ci", "brier", "accuracy", "ece")} == {None}
    assert rung["auc"] is not None


def test_same_seed_same_bytes() -> None:
    data = sample(200, 20)
    first, second = (json.dumps(evaluate_ladder(*data, "bias", 40, generator(3, "b"))) for _ in range(2))
    assert first == second


def test_one_class_is_null_and_counted() -> None:
    found = evaluate_ladder([1, 1, 2], [1, 1, 1], [True] * 3, {"bias": [1.0, 2.0, 3.0]}, "bias", 20, generator(1, "b"))
    rung = found["rungs"]["bias"]
    assert (found["users_uauc"], found["users_dropped"], found["cold_rows"]) == (0, 2, 0)
    assert rung["auc"] is rung["uauc"] is rung["auc_ci"] is rung["versus_floor"]["auc"]["difference"] is None
    assert rung["resamples_undefined"] == 20
    assert rung["ndcg@5"] == 1.0
    json.dumps(found, allow_nan=False)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"scores": {"bias": [1.0, float("nan")]}}, "score_bias holds nan at row 1"),
        ({"floor": "mf"}, "floor mf is not among"),
        ({"labels": [], "users": [], "not_cold": []}, "at least one row"),
        ({"not_cold": [True]}, "not_cold has shape"),
        ({"users": [1]}, "one user per row"),
    ],
)
def test_mistakes_are_told_in_one_line(change: dict[str, object], told: str) -> None:
    base = {
        "users": [1, 2],
        "labels": [0, 1],
        "not_cold": [True, True],
        "scores": {"bias": [1.0, 2.0]},
        "floor": "bias",
    }
    with pytest.raises(DataError, match=told):
        evaluate_ladder(**{**base, **change}, resamples=10, generator=generator(1, "b"))  # type: ignore[arg-type]


def test_a_thousand_resamples_are_quick() -> None:
    data = sample(400, 60)
    start = time.perf_counter()
    evaluate_ladder(*data, "bias", 1000, generator(1, "b"))
    assert time.perf_counter() - start < 3.0


@given(st.lists(st.integers(1, 9), min_size=1, max_size=60), st.integers(2, 40), st.integers(0, 5))
def test_test_rows_are_whole_users_and_just_enough(users: list[int], about: int, seed: int) -> None:
    owner = np.array(users)
    rows = pick_test_rows(owner, about, generator(seed, "test_rows"))
    assert np.array_equal(rows, pick_test_rows(owner, about, generator(seed, "test_rows")))
    assert np.array_equal(rows, np.flatnonzero(np.isin(owner, owner[rows])))
    assert len(rows) >= min(about, len(owner))
    largest = int(np.bincount(owner).max())
    assert len(rows) < about + largest or len(rows) == len(owner) <= about


def test_all_rows_are_taken_for_none() -> None:
    assert pick_test_rows([3, 1, 3], None, generator(1, "x")).tolist() == [0, 1, 2]


def test_several_fits_have_the_mean_of_their_figures() -> None:
    owner, label, warm, scores = sample(300, 30)
    fits = np.stack([scores["good"], scores["bias"]])
    given = {"bias": scores["bias"], "good": scores["good"], "both": fits}
    history = np.arange(300) % 60
    found = evaluate_ladder(owner, label, warm, given, "bias", 50, generator(1, "b"), history=history)["rungs"]
    both, good, bias = found["both"], found["good"], found["bias"]
    assert both["seeds"] == {figure: [good[figure], bias[figure]] for figure in ("auc", "uauc")}
    for figure in ("auc", "uauc", "uauc_by_rows", "hr@1", "ndcg@10", "log_loss", "ece"):
        assert both[figure] == pytest.approx((good[figure] + bias[figure]) / 2)
    half = (good["auc"] - bias["auc"]) / 2
    assert both["versus_floor"]["auc"]["difference"] == pytest.approx(half)
    np.testing.assert_allclose(
        np.array(both["versus_floor"]["auc"]["ci"]) * 2, good["versus_floor"]["auc"]["ci"], atol=1e-12
    )
    part = (history >= 10) & (history < 50)
    assert good["by_history"]["10-49"] == {
        "rows": int(part.sum()),
        "auc": auc(scores["good"][part], label[part]),
        "uauc": uauc(owner[part], scores["good"][part], label[part]),
    }
    assert sum(values["rows"] for values in good["by_history"].values()) == 300


def test_uauc_by_rows_weighs_users_by_their_rows() -> None:
    users, labels, scores = [1, 1, 2, 2, 2, 2], [1, 0, 1, 0, 0, 0], [2.0, 1.0, 1.0, 2.0, 0.0, 0.0]
    rung = evaluate_ladder(users, labels, [True] * 6, {"bias": scores}, "bias", 10, generator(1, "b"))["rungs"]["bias"]
    assert rung["uauc"] == pytest.approx((1 + 2 / 3) / 2)
    assert rung["uauc_by_rows"] == pytest.approx((2 * 1 + 4 * 2 / 3) / 6)
