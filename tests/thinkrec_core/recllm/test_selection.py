"""The named score of a checkpoint."""

from __future__ import annotations

import pytest

from thinkrec_core.recllm.selection import SelectBy, selection_score

FIGURES = {"auc": 0.7, "uauc": 0.6, "log_loss": 0.4}


@pytest.mark.parametrize(
    ("by", "score"), [("auc", 0.7), ("uauc", 0.6), ("auc/4+uauc/3", 0.175 + 0.2), ("log_loss", -0.4)]
)
def test_each_name(by: SelectBy, score: float) -> None:
    assert selection_score(FIGURES, by) == pytest.approx(score)


def test_undefined_figures_count_as_a_coin() -> None:
    undefined = {"auc": None, "uauc": None, "log_loss": None}
    assert selection_score(undefined, "auc/4+uauc/3") == pytest.approx(0.5 / 4 + 0.5 / 3)
    assert selection_score(undefined, "log_loss") == float("-inf")
