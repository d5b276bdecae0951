"""Whom the router sends where: figures of the routes of all users, for the report."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from thinkrec_core.experts.router import FUSION, GENERAL, SINGLE, Routes

HISTOGRAM_BINS = 20


def routing_figures(routes: Routes, known: npt.NDArray[np.bool_]) -> dict[str, Any]:
    """A JSON-able dictionary with routes (users per route) and mean_gates of all users; entropy_mean, entropy_histogram and
    top_weight_histogram of the users with train rows, over 0..1: the entropy as a share of its largest value ln N, and the
    largest weight.

    Args:
        routes: of U+1 users, row 0 the padding.
        known: (U+1,) whether the user has train rows; one at least has.
    """
    real = np.arange(len(known)) > 0
    top = routes.weights[known].max(axis=1)
    entropy = routes.entropy[known] / np.maximum(np.log(routes.compared[known]), 1e-12)
    bins = np.linspace(0.0, 1.0, HISTOGRAM_BINS + 1)
    return {
        "routes": {name: int((routes.route[real] == name).sum()) for name in (GENERAL, SINGLE, FUSION)},
        "mean_gates": [round(float(gate), 6) for gate in routes.gates[real].mean(axis=0)],
        "entropy_mean": round(float(entropy.mean()), 6),
        "entropy_histogram": np.histogram(np.clip(entropy, 0, 1), bins)[0].tolist(),
        "top_weight_histogram": np.histogram(np.clip(top, 0, 1), bins)[0].tolist(),
    }
