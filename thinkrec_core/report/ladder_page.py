"""One self-contained HTML page about a ladder: its table, the frontier of AUC and UAUC, and what papers report."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from importlib import resources
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from thinkrec_core.report import tables
from thinkrec_core.report.published import PUBLISHED

TEMPLATE = "ladder.html.j2"


def render_ladder(evaluation: Mapping[str, Any]) -> str:
    """The whole page as text, equal bytes for equal values.

    Args:
        evaluation: what `evaluate_ladder` gives, with protocol (liked or labelled) and seeds.
    """
    from thinkrec_core.report.frontier import frontier_figure  # matplotlib

    environment = Environment(
        loader=PackageLoader("thinkrec_core.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(TEMPLATE).render(
        evaluation=evaluation,
        main=tables.ladder_rows(evaluation),
        other=tables.other_rows(evaluation),
        parts=tables.warm_cold_rows(evaluation),
        other_titles=[title for _, title in tables.OTHER_FIGURES],
        frontier=Markup(frontier_figure(evaluation)),
        published=PUBLISHED,
    )


def ladder_template_digest() -> str:
    """sha256 of the page's template, which no import names."""
    return hashlib.sha256(resources.files("thinkrec_core.report").joinpath(TEMPLATE).read_bytes()).hexdigest()
