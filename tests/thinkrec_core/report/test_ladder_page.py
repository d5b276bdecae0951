from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from thinkrec_core.evaluation.ladder import evaluate_ladder
from thinkrec_core.report.frontier import frontier
from thinkrec_core.report.ladder_page import render_ladder
from thinkrec_core.report.published import PUBLISHED

VALUES = st.floats(0, 1, width=16)


@given(st.lists(st.tuples(VALUES, VALUES), min_size=1, max_size=12))
def test_the_frontier_is_what_no_point_beats_in_both(points: list[tuple[float, float]]) -> None:
    kept = {points[index] for index in frontier(points)}
    beaten = {p for p in points if any(q[0] >= p[0] and q[1] >= p[1] and q != p for q in points)}
    assert kept == set(points) - beaten


def test_the_page_names_protocol_rungs_intervals_and_published_figures() -> None:
    draw = np.random.default_rng(2)
    users, labels = draw.integers(0, 9, 120), draw.integers(0, 2, 120)
    fits = labels + draw.normal(size=(3, 120))
    found = evaluate_ladder(users, labels, labels > 2, {"bias": fits[0], "mf": fits}, "bias", 20, draw)
    page = render_ladder(found | {"protocol": "liked", "split": "given", "seeds": 3})
    assert page == render_ladder(found | {"protocol": "liked", "split": "given", "seeds": 3})
    assert "histories <b>liked</b>" in page
    assert "<script" not in page
    assert all(row.method in page and f"{row.auc:.4f}" in page for row in PUBLISHED)
    assert f"{found['rungs']['mf']['auc']:.3f}" in page
