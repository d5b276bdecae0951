"""The ablations of routing: the same experts, chosen otherwise.

| variant | a user with train rows gets |
|---|---|
| general | the general adapter |
| routed | what the configured router says |
| single | the expert with the largest weight |
| fusion | the fusion, or the general adapter where no expert fits |
| soft | the fusion, always |
| merged | [compat] as routed, but fusions merged as published: with cross terms |

Users without train rows have the general adapter in all of them.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt

from thinkrec_core.config.experts import RouterConfig
from thinkrec_core.experts.router import FloatArray, route_weights

GENERAL, ROUTED, MERGED = "general", "routed", "merged"
MODES: dict[str, Literal["hard", "fusion", "soft"]] = {"single": "hard", "fusion": "fusion", "soft": "soft"}
"""Variants that are other modes of the router."""


def variant_gates(
    weights: npt.ArrayLike, routed: FloatArray, known: npt.ArrayLike, trained: npt.ArrayLike, router: RouterConfig
) -> dict[str, FloatArray]:
    """(U, N+1) gates of each variant but `merged`, whose gates are those of `routed`.

    Args:
        weights: (U, N) softmax weights.
        routed: (U, N+1) gates that the run applies.
        known: (U,) whether the user has train rows.
        trained: (N,) whether the expert has an adapter of its own.
        router: its mode is replaced.
    """
    general = np.zeros_like(routed)
    general[:, 0] = 1.0
    found = {GENERAL: general, ROUTED: routed}
    for name, mode in MODES.items():
        found[name] = route_weights(weights, router.model_copy(update={"mode": mode}), known, trained).gates
    return found
