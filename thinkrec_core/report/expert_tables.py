"""The tables about experts as rows of ready text: variants of the routing, clusters, routes, the number of experts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from thinkrec_core.report.licences import PRIOR_NAMES
from thinkrec_core.report.tables import Cell, Row, text
from thinkrec_core.report.words import figure, interval, p_text, signed

VARIANT_NAMES = {
    "general": "General adapter for everybody",
    "routed": "As routed by this run",
    "single": "Expert with the largest weight",
    "fusion": "Fusion, or general where none fits",
    "soft": "Fusion, always",
    "merged": "As routed, fused as published",
}
NOTE = (
    "Users without train rows keep the general adapter in every variant. The last line merges adapters as the published code does,"
    " with cross terms; it differs where users are fused."
)
PART_COLUMNS = ("Users", "Rows", "AUC general", "AUC routed", "UAUC general", "UAUC routed")


def variant_rows(figures: Mapping[str, Any]) -> list[Row]:
    """One row per variant: AUC and UAUC with intervals, the paired differences to the general adapter, rows that changed."""
    return [
        Row(
            VARIANT_NAMES.get(name, name),
            [*_with_difference(name, found), Cell(text(found["changed"]))],
            name == "routed",
        )
        for name, found in figures["variants"].items()
    ]


def part_rows(parts: Mapping[str, Any]) -> list[Row]:
    """One row per cluster or route."""
    return [
        Row(
            "no train rows" if name == "none" else name,
            [Cell(text(part["users"])), Cell(text(part["rows"]))]
            + [Cell(figure(part[variant][key])) for key in ("auc", "uauc") for variant in ("general", "routed")],
        )
        for name, part in parts.items()
    ]


def choice_rows(choice: Mapping[str, Any]) -> list[Row]:
    """One row per number of experts that was compared."""
    return [
        Row(
            str(count),
            [Cell(figure(found[key]), interval(found[f"{key}_ci"])) for key in ("auc", "uauc")]
            + [Cell(figure(found["score"], 4)), Cell("chosen" if int(count) == choice["count"] else "")],
        )
        for count, found in choice["by_count"].items()
    ]


def silhouettes(clusters: Mapping[str, Any]) -> str:
    """A sentence about the numbers of clusters that the silhouette compared; "" where it compared none."""
    tried = clusters.get("silhouettes") or {}
    if len(tried) < 2:
        return ""
    return " By number of clusters: " + ", ".join(f"{count}: {figure(value)}" for count, value in tried.items()) + "."


def prior_note(prior: str | None) -> str:
    """A sentence about what every score was added to; "" where it is the LLM's alone."""
    return f" All scores include the logit of {PRIOR_NAMES[prior]}." if prior in PRIOR_NAMES else ""


def _with_difference(name: str, found: Mapping[str, Any]) -> list[Cell]:
    cells = []
    for key in ("auc", "uauc"):
        versus = found["versus_floor"][key]
        told = ", ".join(filter(None, [interval(versus["ci"], with_sign=True), p_text(versus["p"])]))
        cells.append(Cell(figure(found[key]), interval(found[f"{key}_ci"])))
        cells.append(Cell("") if name == "general" else Cell(signed(versus["difference"]), told))
    return cells
