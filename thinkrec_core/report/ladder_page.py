"""One self-contained HTML page about a ladder: its table, the frontier of AUC and UAUC, and what papers report."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

from thinkrec_core.report import tables
from thinkrec_core.report.published import PUBLISHED
from thinkrec_core.report.templates import template_environment

TEMPLATE = "ladder.html.j2"


def render_ladder(evaluation: Mapping[str, Any]) -> str:
    """The whole page as text, equal bytes for equal values.

    Args:
        evaluation: what `evaluate_ladder` gives, with protocol (liked or labelled) and seeds.
    """
    from thinkrec_core.report.frontier import frontier_figure  # matplotlib

    return (
        template_environment()
        .get_template(TEMPLATE)
        .render(
            evaluation=evaluation,
            main=tables.ladder_rows(evaluation),
            other=tables.other_rows(evaluation),
            parts=tables.warm_cold_rows(evaluation),
            other_titles=[title for _, title in tables.OTHER_FIGURES],
            frontier=Markup(frontier_figure(evaluation)),
            published=PUBLISHED,
        )
    )
