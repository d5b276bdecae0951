"""The page about explanations: figures beside floors, texts as text, missing figures as such."""

from __future__ import annotations

from typing import Any

import numpy as np

from thinkrec_core.evaluation.explained import Explained
from thinkrec_core.evaluation.explanations import measure_explanations
from thinkrec_core.report.explanations_page import render_explanations

TITLES = ["", "Long Film (1990)", "Other Film (1991)", "Third Film <b> (1992)"]


def page(**references: Any) -> str:
    traces = [
        "The user will enjoy Long Film (1990).",
        'Close to "Other Film", so the user will not like <it>.',
        "Nothing & more",
    ]
    told = ["The user likes Long Film.", "The user disliked Other Film.", "Nothing more."]
    explained = Explained(
        np.array([1, 2, 3]),
        np.array([1, 0, 1]),
        np.array([0.5, -1, 1]),
        traces,
        told,
        [frozenset({1}), frozenset({3}), frozenset()],
    )
    measured = measure_explanations(explained, TITLES, 20, np.random.default_rng(0))
    figures = {"split": "test", "references": {"accepted": 3, "rejected": 1, "model": "m", "note": "", **references}}
    rows = [
        {"row": row, "title": TITLES[row + 1], "label": 1, "score": 0.5, "trace": trace, "reference": reference}
        | {name: values[row] for name, values in measured.columns.items()}
        for row, (trace, reference) in enumerate(zip(traces, told, strict=True))
    ]
    return render_explanations(figures | measured.figures, rows)


def test_the_page_shows_figures_texts_and_violations_first() -> None:
    text = page(note="A small teacher.")
    assert text == page(note="A small teacher.")
    assert "<script" not in text
    assert "Groundedness" in text
    assert "needs explanations.embedding_model" in text
    assert "A small teacher." in text
    assert "Of 3 traces, 2 argue for the verdict of the score, 0 against it, 1 for none." in text
    assert "They name 2 catalogue titles, 1 of them neither shown nor the target, and 0 quoted titles" in text
    assert text.index("Other Film (1991)") < text.index("Long Film (1990)</h3>")
    assert '<dd class="bad">Other Film</dd>' in text


def test_texts_are_escaped() -> None:
    text = page()
    assert "will not like &lt;it&gt;." in text
    assert "Third Film &lt;b&gt;" in text
    assert "<b>" not in text
