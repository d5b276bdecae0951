"""AUC against UAUC: a user offset that follows the latest labels lifts one and costs the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

from thinkrec_core.report.labels import Label, name_points
from thinkrec_core.report.published import LABELLED, LIKED, ML_1M, ML_1M_TEST_ROWS, PUBLISHED
from thinkrec_core.report.svg import INK, MUTED, PAPER, draw, quiet, series_color
from thinkrec_core.report.words import rung_name

LEAST = 0.6
"""Rungs below this AUC or UAUC are left out of the picture: they would press the others together."""
PROTOCOLS = {"liked": LIKED, "labelled": LABELLED}
PALE = 0.45
"""Opacity of figures that were published under another protocol."""


def frontier(points: Sequence[tuple[float, float]]) -> list[int]:
    """Indices of the points that no other one reaches in both values, by falling second value."""
    order = sorted(range(len(points)), key=lambda index: (-points[index][1], -points[index][0]))
    best, kept = float("-inf"), []
    for index in order:
        if points[index][0] > best:
            best = points[index][0]
            kept.append(index)
    return kept


def frontier_figure(evaluation: Mapping[str, Any]) -> str:
    """All rungs in the AUC-UAUC plane with their frontier; published ML-1M figures where the test rows are that split's.

    Those of another protocol than `evaluation["protocol"]` are pale.
    """
    rungs = [(rung_name(name), rung["auc"], rung["uauc"]) for name, rung in evaluation["rungs"].items()]
    shown = [(name, x, y) for name, x, y in rungs if x is not None and y is not None and min(x, y) >= LEAST]
    others = [
        (row.method, row.auc, row.uauc, 1.0 if row.protocol == PROTOCOLS.get(evaluation.get("protocol", "")) else PALE)
        for row in PUBLISHED
        if evaluation["rows"] == ML_1M_TEST_ROWS and row.data == ML_1M and row.uauc and min(row.auc, row.uauc) >= LEAST
    ]

    def paint(picture: Figure) -> None:
        axes = picture.add_subplot()
        for _, x, y, alpha in others:
            axes.plot([x], [y], "x", color=MUTED, markersize=4, alpha=alpha)
        points = [(x, y) for _, x, y in shown]
        edge = [points[index] for index in frontier(points)]
        axes.plot([x for x, _ in edge], [y for _, y in edge], color=series_color(1), linewidth=1.1)
        for x, y in points:
            axes.plot([x], [y], "o", color=series_color(0), markersize=5, markeredgecolor=PAPER)
        axes.set_xlabel("AUC")
        axes.set_ylabel("UAUC")
        axes.margins(x=0.16, y=0.1)
        quiet(axes, "both")
        named = [Label(name, x, y, 7.5, INK) for name, x, y in shown]
        name_points(picture, axes, named + [Label(name, x, y, 6, MUTED, alpha) for name, x, y, alpha in others])

    return draw("frontier", f"{len(shown)} rungs and {len(others)} published figures by AUC and UAUC", 330, paint)
