"""The named score of a checkpoint."""

from __future__ import annotations

import numpy as np
import pytest

from thinkrec_core.evaluation.auc import auc
from thinkrec_core.recllm.selection import RATIOS, SelectBy, choose_weight, selection_score, valid_figures

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


def rows() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Users, labels, and two signals of them, the second useful and far too small."""
    draw = np.random.default_rng(0)
    user, label = np.repeat(np.arange(40), 10), draw.integers(0, 2, 400)
    return user, label, label + draw.normal(size=400), 0.02 * (label + draw.normal(size=400))


def test_the_weight_is_the_best_of_the_candidates() -> None:
    user, label, prior, llm = rows()
    chosen = choose_weight(user, label, prior, llm, "auc")
    candidates = [1.0, *(ratio * prior.std() / llm.std() for ratio in RATIOS)]
    found = {weight: auc(prior + weight * llm, label) for weight in candidates}
    assert found[chosen] == max(found.values()) > found[1.0] + 0.01
    assert chosen in candidates
    # Noise is given the least weight there is.
    noise = np.random.default_rng(1).normal(size=400) * 10
    assert choose_weight(user, label, prior, noise, "auc") == pytest.approx(0.2 * prior.std() / noise.std())


def test_the_weight_of_a_constant_is_one() -> None:
    user, label, prior, _ = rows()
    assert choose_weight(user, label, prior, np.full(400, 3.0), "auc") == 1.0


def test_a_prior_without_spread_leaves_the_weight_of_training() -> None:
    user, label, _, llm = rows()
    assert choose_weight(user, label, np.zeros(400), llm, "auc") == 1.0


def test_figures_hold_their_score() -> None:
    user, label, prior, _ = rows()
    figures = valid_figures(user, label, prior, "log_loss")
    assert figures["score"] == -figures["log_loss"]  # type: ignore[operator]
    assert figures["auc"] == auc(prior, label)
