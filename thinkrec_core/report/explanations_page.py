"""One self-contained HTML page about explanations: figures beside their floors, and texts of student and teacher."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from thinkrec_core.report.explanation_tables import PUBLISHED, figure_rows, sentences
from thinkrec_core.report.templates import template_environment

TEMPLATE = "explanations.html.j2"
SHOWN = 20
"""Explanations on the page; the table has all."""


def render_explanations(figures: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> str:
    """The whole page as text, equal bytes for equal values.

    Args:
        figures: what `measure_explanations` gives, with split and references {accepted, rejected, model, note}.
        rows: of explanations.parquet; those with invented or ungrounded titles are shown first.
    """
    found = sorted(rows, key=lambda row: -len(row["ungrounded"]) - len(row["unknown"]))
    page = template_environment().get_template(TEMPLATE)
    return page.render(
        figures=figures,
        table=figure_rows(figures),
        sentences=sentences(figures),
        published=PUBLISHED,
        rows=found[:SHOWN],
    )
