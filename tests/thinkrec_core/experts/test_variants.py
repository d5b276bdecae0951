"""The ablations of routing: what each variant gives whom."""

from __future__ import annotations

import numpy as np

from thinkrec_core.config.experts import RouterConfig
from thinkrec_core.experts.router import route_weights
from thinkrec_core.experts.variants import variant_gates

WEIGHTS = np.array([[0.5, 0.5], [0.3, 0.7], [0.1, 0.9], [0.1, 0.9]])
KNOWN = np.array([True, True, True, False])


def gates(trained: list[bool]) -> dict[str, list[list[float]]]:
    routed = route_weights(WEIGHTS, RouterConfig(), KNOWN, trained).gates
    found = variant_gates(WEIGHTS, routed, KNOWN, trained, RouterConfig())
    return {name: np.round(values, 9).tolist() for name, values in found.items()}


def test_each_variant_by_hand() -> None:
    general = [1.0, 0.0, 0.0]
    assert gates([True, True]) == {
        "general": [general] * 4,
        "routed": [general, [0, 0.3, 0.7], [0, 0, 1], general],
        "single": [[0, 1, 0], [0, 0, 1], [0, 0, 1], general],
        "fusion": [general, [0, 0.3, 0.7], [0, 0.1, 0.9], general],
        "soft": [[0, 0.5, 0.5], [0, 0.3, 0.7], [0, 0.1, 0.9], general],
    }


def test_experts_that_were_not_trained_are_the_general_adapter() -> None:
    found = gates([False, True])
    assert found["soft"][:3] == [[0.5, 0, 0.5], [0.3, 0, 0.7], [0.1, 0, 0.9]]
    assert found["single"][0] == [1, 0, 0]
