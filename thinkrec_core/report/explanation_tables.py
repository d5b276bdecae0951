"""The figures of explanations as rows of ready text, for the terminal and for the page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from thinkrec_core.report.tables import Cell, Row
from thinkrec_core.report.words import NONE, count, figure, interval, p_text, signed

FIGURE_NAMES = {
    "meteor": "METEOR (no synonyms)",
    "bleu": "BLEU",
    "rouge_l": "ROUGE-L",
    "embedding_cosine": "Embedding cosine",
    "bertscore_f1": "BERTScore F1",
    "consistency": "Verdict consistency",
    "groundedness": "Groundedness",
}
PUBLISHED = (
    "ThinkRec reports METEOR .0333 on ML-1M, with another teacher, other references and synonyms: not to be compared."
)


def figure_rows(figures: Mapping[str, Any]) -> list[Row]:
    """One row per figure: value and floor with intervals, the paired difference, and the rows that have it."""
    rows = []
    for name, title in FIGURE_NAMES.items():
        metric = figures["metrics"][name]
        if metric is None:
            rows.append(
                Row(title, [Cell(NONE, "needs explanations.embedding_model"), Cell(NONE), Cell(NONE), Cell(NONE)])
            )
            continue
        difference = metric["difference"]
        below = ", ".join(filter(None, [interval(difference["ci"], with_sign=True), p_text(difference["p"])]))
        cells = [
            Cell(figure(metric["value"]), interval(metric["ci"]) if metric["ci"] else ""),
            Cell(figure(metric["floor"]), interval(metric["floor_ci"]) if metric["floor_ci"] else ""),
            Cell(signed(difference["difference"]), below if difference["ci"] else ""),
            Cell(str(metric["rows"])),
        ]
        rows.append(Row(title, cells))
    return rows


def sentences(figures: Mapping[str, Any]) -> list[str]:
    """What the table does not say: agreement, verdicts, titles, diversity."""
    verdicts, titles = figures["verdicts"], figures["titles"]
    diversity = ", ".join(
        f"{name.replace('_', '-')} {figure(of['traces'])} (teacher {figure(of['references'])})"
        for name, of in figures["distinct"].items()
    )
    return [
        f"The student's verdict is what the user did on {figures['agreement']:.0%} of the rows.",
        f"Of {count(figures['rows'], 'trace')}, {verdicts['consistent']} argue for the verdict of the score, "
        f"{verdicts['contradicting']} against it, {verdicts['silent']} for none.",
        f"They name {count(titles['named'], 'catalogue title')}, {titles['ungrounded']} of them neither shown nor the target, and "
        f"{count(titles['unknown'], 'quoted title')} that the catalogue does not hold.",
        f"Diversity: {diversity}.",
    ]
