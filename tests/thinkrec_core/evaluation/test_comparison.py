"""Paired differences of two runs: equal to the ladder's own, signed as second minus first, undefined where nothing is."""

from __future__ import annotations

import numpy as np
import pytest

from thinkrec_core.errors import DataError
from thinkrec_core.evaluation.comparison import compare_scores
from thinkrec_core.evaluation.ladder import evaluate_ladder

DRAW = np.random.default_rng(3)
USERS = np.repeat(np.arange(40), 12)
LABELS = (DRAW.random(480) < 0.5).astype(np.int64)
GOOD = LABELS + DRAW.normal(size=480)
POOR = LABELS * 0.3 + DRAW.normal(size=480)


def test_differences_are_those_of_the_ladder_against_its_floor() -> None:
    found = compare_scores(USERS, LABELS, {"it": ([POOR], [GOOD])}, 200, np.random.default_rng(1))["it"]
    scores = {"poor": POOR, "good": GOOD}
    ladder = evaluate_ladder(USERS, LABELS, LABELS == 1, scores, "poor", 200, np.random.default_rng(1))
    for figure in ("auc", "uauc"):
        expected = ladder["rungs"]["good"]["versus_floor"][figure]
        assert found[figure]["first"] == pytest.approx(ladder["rungs"]["poor"][figure])
        assert found[figure]["second"] == pytest.approx(ladder["rungs"]["good"][figure])
        assert found[figure]["difference"] == pytest.approx(expected["difference"])
        assert found[figure]["ci"] == pytest.approx(expected["ci"])
        assert found[figure]["p"] == expected["p"]
        assert found[figure]["ci"][0] > 0


def test_a_run_does_not_differ_from_itself_and_swapping_turns_the_sign() -> None:
    pairs = {"same": ([GOOD], [GOOD]), "turned": ([GOOD], [POOR])}
    found = compare_scores(USERS, LABELS, pairs, 100, np.random.default_rng(1))
    assert found["same"]["auc"]["difference"] == 0
    assert found["same"]["auc"]["ci"] == [0, 0]
    assert found["same"]["auc"]["p"] == 1
    assert found["turned"]["auc"]["ci"][1] < 0


def test_figures_of_several_fits_are_means_of_their_figures() -> None:
    found = compare_scores(USERS, LABELS, {"it": ([POOR, GOOD], [GOOD])}, 50, np.random.default_rng(1))["it"]["auc"]
    alone = compare_scores(USERS, LABELS, {"it": ([POOR], [GOOD])}, 50, np.random.default_rng(1))["it"]["auc"]
    assert found["first"] == pytest.approx((alone["first"] + alone["second"]) / 2)
    assert found["difference"] == pytest.approx(alone["difference"] / 2)
    np.testing.assert_allclose(found["ci"], np.array(alone["ci"]) / 2, atol=1e-12)


def test_what_the_rows_leave_undefined_is_none_and_bad_scores_are_refused() -> None:
    found = compare_scores([1, 2], [1, 1], {"it": ([[0.1, 0.2]], [[0.3, 0.1]])}, 10, np.random.default_rng(1))["it"]
    assert found["auc"] == {"first": None, "second": None, "difference": None, "ci": None, "p": None}
    with pytest.raises(DataError, match="scores of it"):
        compare_scores([1, 2], [1, 0], {"it": ([[np.nan, 0.2]], [[0.3, 0.1]])}, 10, np.random.default_rng(1))
