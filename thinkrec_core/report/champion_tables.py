"""The section about the model in use: what was decided about this run's model, and how far the new window has moved."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from thinkrec_core.evaluation.drift import DRIFTED, SHIFTED
from thinkrec_core.report.tables import Cell, Row
from thinkrec_core.report.words import figure, interval, p_text, signed

TEMPLATE = "champion.html.j2"


def promotion_rows(promotion: Mapping[str, Any]) -> list[Row]:
    """One row: champion, candidate and their paired difference; none for a first version."""
    if "difference" not in promotion:
        return []
    below = ", ".join(filter(None, [interval(promotion["ci"], with_sign=True), p_text(promotion["p"])]))
    cells = [Cell(figure(promotion[side], 4)) for side in ("champion", "candidate")]
    return [Row(promotion["by"].upper(), [*cells, Cell(signed(promotion["difference"], 4), below)])]


def window_rows(drift: Mapping[str, Any]) -> list[Row]:
    """The new valid window beside the champion's, figure by figure."""
    champion = drift["champion"]
    return [
        Row("Label rate", [Cell(figure(drift["label_rate_champion"])), Cell(figure(drift["label_rate"]))]),
        Row("Rows of unknown users", [Cell(""), Cell(f"{drift['new_user_rows']:.1%}")]),
        Row("Rows of unknown items", [Cell(""), Cell(f"{drift['new_item_rows']:.1%}")]),
        Row("AUC of the champion", [_own(champion), Cell(figure(champion["auc"], 4))]),
        Row("UAUC of the champion", [Cell(figure(champion["own_uauc"], 4)), Cell(figure(champion["uauc"], 4))]),
    ]


def stability_rows(drift: Mapping[str, Any]) -> list[Row]:
    """One row per statistic: its population stability index and what that means by custom."""
    return [
        Row(name.replace("_", " ").capitalize(), [Cell(figure(value)), Cell(_verdict(value))])
        for name, value in drift["stability"].items()
    ]


def _own(champion: Mapping[str, Any]) -> Cell:
    return Cell(figure(champion["own_auc"], 4), interval(champion["own_auc_ci"]))


def _verdict(value: float | None) -> str:
    if value is None:
        return "not comparable"
    return "stable" if value < SHIFTED else "shifted" if value < DRIFTED else "another population"
