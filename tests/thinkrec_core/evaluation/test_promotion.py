from __future__ import annotations

import numpy as np
import pytest

from thinkrec_core.errors import DataError
from thinkrec_core.evaluation.promotion import decide, first_decision

DRAW = np.random.default_rng(3)
USERS = np.repeat(np.arange(40), 20)
LABELS = DRAW.integers(0, 2, 800)
GOOD = LABELS + DRAW.normal(size=800)
NOISE = DRAW.normal(size=800)


def decided(champion: np.ndarray, candidate: np.ndarray, margin: float = 0.0, by: str = "auc") -> dict[str, object]:
    return decide(USERS, LABELS, champion, candidate, by, margin, 200, np.random.default_rng(1))  # type: ignore[arg-type]


@pytest.mark.parametrize("by", ["auc", "uauc"])
def test_a_better_candidate_is_promoted_and_a_worse_or_equal_one_is_not(by: str) -> None:
    better = decided(NOISE, GOOD, by=by)
    assert better["decision"] == "promoted"
    assert f"its {by.upper()} is better by +0." in str(better["reason"])
    worse = decided(GOOD, NOISE, by=by)
    assert worse["decision"] == "refused"
    assert worse["difference"] == -better["difference"]  # type: ignore[operator]
    equal = decided(GOOD, GOOD, by=by)
    assert (equal["decision"], equal["difference"], equal["ci"]) == ("refused", 0.0, [0.0, 0.0])


def test_the_lower_end_of_the_interval_has_to_exceed_the_margin() -> None:
    low = decided(NOISE, GOOD)["ci"][0]  # type: ignore[index]
    assert decided(NOISE, GOOD, margin=low - 1e-9)["decision"] == "promoted"
    assert decided(NOISE, GOOD, margin=low)["decision"] == "refused"


def test_a_figure_that_is_undefined_refuses() -> None:
    found = decide([1, 1, 2], [1, 1, 1], [0.0, 1, 2], [2.0, 1, 0], "auc", 0.0, 20, np.random.default_rng(1))
    assert found["decision"] == "refused"
    assert "undefined" in found["reason"]


def test_a_first_version_needs_no_rows_and_a_score_that_is_none_is_an_error() -> None:
    assert first_decision()["decision"] == "promoted"
    with pytest.raises(DataError, match="finite"):
        decided(GOOD, np.full(800, np.nan))
