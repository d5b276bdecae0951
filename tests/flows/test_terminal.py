"""The words at the end of a run."""

from __future__ import annotations

import io

import numpy as np
import pytest
from rich.console import Console

from flows.terminal import print_summary
from thinkrec_core.evaluation.ladder import evaluate_ladder


@pytest.mark.parametrize(
    ("accepted", "cost", "shown", "hidden"),
    [
        (4, 0.0123, ["4 accepted, 2 rejected", "They cost 0.0123"], ["No reflection could"]),
        (0, None, ["0 accepted, 6 rejected", "No reflection could be trained on"], ["They cost"]),
    ],
)
def test_reflections_and_their_cost(accepted: int, cost: float | None, shown: list[str], hidden: list[str]) -> None:
    draw = np.random.default_rng(1)
    label = draw.integers(0, 2, 40)
    ladder = evaluate_ladder(draw.integers(0, 8, 40), label, label > 2, {"bias": draw.normal(label)}, "bias", 20, draw)
    summary = {
        "stages": {"data": {"seconds": 1.25, "status": "ran"}},
        "all_cached": False,
        **{name: ladder[name] for name in ("rows", "users", "floor", "rungs")},
        "headline": "A headline.",
        "reflections": {"accepted": accepted, "rejected": 6 - accepted},
        "teacher": {"cost": cost},
        "explanations": [],
        "report": "/r",
        "predictions": "/p",
        "adapters": {"general": "/a"},
        "mlflow_run": "",
    }
    written = io.StringIO()
    print_summary(Console(file=written, width=100), summary)
    told = written.getvalue()
    assert all(text in told for text in ["A headline.", "not tracked", *shown])
    assert not any(text in told for text in hidden)
