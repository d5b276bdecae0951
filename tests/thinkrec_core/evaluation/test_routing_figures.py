"""Figures of the routes of all users, counted by hand."""

from __future__ import annotations

import numpy as np
import pytest

from thinkrec_core.config.experts import RouterConfig
from thinkrec_core.evaluation.routing_figures import routing_figures
from thinkrec_core.experts.router import route_users

KNOWN = np.array([False, True, True, True, False])


def test_users_are_counted_by_route_and_the_padding_is_nobody() -> None:
    cosines = 0.1 * np.log([[0.5, 0.5], [0.5, 0.5], [0.7, 0.3], [0.9, 0.1], [0.9, 0.1]])
    found = routing_figures(route_users(cosines, RouterConfig(), KNOWN, [True, True]), KNOWN)
    assert found["routes"] == {"general": 2, "single": 1, "fusion": 1}
    assert found["mean_gates"] == pytest.approx([2 / 4, (0.7 + 1) / 4, 0.3 / 4])
    assert sum(found["entropy_histogram"]) == sum(found["top_weight_histogram"]) == 3
    assert found["entropy_histogram"][19] == 1  # two equal weights: all of ln 2
    entropy = [1.0, *(-(w * np.log2(w) + (1 - w) * np.log2(1 - w)) for w in (0.7, 0.9))]
    assert found["entropy_mean"] == pytest.approx(np.mean(entropy), abs=1e-6)


def test_entropy_is_a_share_of_the_largest_that_the_user_could_have() -> None:
    cosines = np.array([[0.0, 0.0, 0.0], [0.2, 0.2, np.nan], [0.2, 0.2, 0.2], [0.2, 0.2, np.nan], [0.0, 0.0, 0.0]])
    found = routing_figures(route_users(cosines, RouterConfig(), KNOWN, [True] * 3), KNOWN)
    assert found["entropy_mean"] == 1.0
    assert found["routes"] == {"general": 4, "single": 0, "fusion": 0}


def test_one_cluster_has_no_entropy() -> None:
    found = routing_figures(route_users(np.ones((5, 1)), RouterConfig(), KNOWN, [False]), KNOWN)
    assert (found["entropy_mean"], found["entropy_histogram"][0]) == (0.0, 3)
