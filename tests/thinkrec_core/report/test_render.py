"""The page as a whole: self-contained, escaped, readable colours, tolerant of missing parts, the same bytes."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from xml.etree import ElementTree

import numpy as np
import pytest

from tests.data_statistics import statistics
from thinkrec_core.config.root import ThinkRecConfig
from thinkrec_core.evaluation.ladder import evaluate_ladder
from thinkrec_core.report.render import render_report
from thinkrec_core.report.tables import facts, gate_shares, split_rows
from thinkrec_core.report.values import ReportValues, Training

HOSTILE = '<script>alert("x")</script> & {{ 7 * 7 }}'


class Tags(HTMLParser):
    """Every tag and attribute of a page, and tags left open."""

    VOID = frozenset({"meta", "br", "link", "img", "input", "hr"})

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.open: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def records(phases: dict[str, int]) -> list[dict[str, object]]:
    found: list[dict[str, object]] = []
    for phase, steps in phases.items():
        for step in range(steps):
            kind = "reasoning" if step % 5 == 4 else "recommendation"
            found.append({"phase": phase, "step": step, "kind": kind, "loss": 1.0, "bce": 0.7 - step / 999, "ce": 2.0})
        found.append(
            {"phase": phase, "step": steps, "valid": {"auc": 0.6, "uauc": None, "log_loss": 0.6, "score": 0.3}}
        )
    return found


@pytest.fixture(scope="module")
def values() -> ReportValues:
    rng = np.random.default_rng(1)
    owner, label = rng.integers(0, 15, 90), rng.integers(0, 2, 90)
    names = ("popularity", "bias", "encoder", "zero_shot", "thinkrec_general", "thinkrec_experts")
    scores = {name: rng.normal(label, 1.5) for name in names}
    return ReportValues(
        config=ThinkRecConfig().model_dump(mode="json"),
        evaluation=evaluate_ladder(owner, label, rng.random(90) < 0.5, scores, "bias", 50, rng),
        data=statistics(source=HOSTILE),
        encoder={"test": {"auc": 0.7}, "kind": "mf"},
        wrong={"kept": 48},
        reflections={"accepted": 1, "rejected": 1},
        traces=[
            {"row": 1, "label": 1, "verdict": "yes", "rounds": 1, "accepted": True, "reason": "", "trace": HOSTILE},
            {"row": 2, "label": 0, "verdict": None, "rounds": 7, "accepted": False, "reason": HOSTILE, "trace": ""},
        ],
        general=Training("general", {"best_step": 20, "steps": 20}, records({"G1": 30, "G2": 20})),
        experts=[Training("expert 0", {}, records({"E": 150}))],
        clusters={
            "count": 2,
            "sizes": [9, 6],
            "train_rows": [90, 6],
            "trained": [True, False],
            "silhouette": None,
            "users_without_train_rows": 1,
            "routes": {"general": 7, "single": 9, "fusion": 0},
            "top_weight_histogram": [0] * 10 + [3] * 5 + [0] * 5,
            "map": {"x": [0.0, 1.0, 2.0], "y": [0.0, 1.0, 0.5], "cluster": [0, 1, 1]},
        },
        explanations=[
            {
                "user_id": HOSTILE,
                "item_id": "7",
                "title": HOSTILE,
                "label": 1,
                "history": [{"title": HOSTILE, "label": 0}],
                "scores": {"bias": 0.5, "thinkrec_experts": -1.25},
                "route": "fusion",
                "gates": [0.25, 0.75, 0.0],
                "text": HOSTILE,
            }
        ],
    )


@pytest.fixture(scope="module")
def page(values: ReportValues) -> str:
    return render_report(values)


def test_the_page_is_well_formed_and_loads_nothing(page: str) -> None:
    tags = Tags(page)
    assert tags.open == []
    assert not {"script", "link", "img", "iframe", "object"} & set(tags.tags)
    assert [value for name, value in tags.attributes if name in ("href", "xlink:href") and value[:1] != "#"] == []
    assert not [name for name, _ in tags.attributes if name.startswith("on") or name == "src"]
    assert "http" not in page
    assert "@import" not in page
    assert "url(" not in page.replace("url(#", "")


def test_texts_of_the_run_stay_texts(page: str) -> None:
    assert page.count("&lt;script&gt;alert(&#34;x&#34;)&lt;/script&gt; &amp; {{ 7 * 7 }}") == 7
    assert "<script" not in page


def test_equal_values_give_equal_bytes(values: ReportValues, page: str) -> None:
    assert render_report(values) == page


def test_ids_are_unique_and_references_resolve(page: str) -> None:
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids)) > 0
    assert set(re.findall(r'(?:href="#|url\(#)([^")]+)', page)) <= set(ids)


def test_pictures_follow_the_page_colours(page: str) -> None:
    pictures = re.findall(r"<svg.*?</svg>", page, flags=re.DOTALL)
    assert len(pictures) == 9
    for picture in pictures:
        assert re.findall(r"#[0-9a-fA-F]{6}\b", picture) == []
        assert "var(--" in picture
        root = ElementTree.fromstring(picture.replace("<svg ", '<svg xmlns:xlink="x" ', 1))
        assert root.get("aria-label")


def test_text_colours_meet_wcag_contrast_in_both_themes(page: str) -> None:
    def luminance(color: str) -> float:
        channels = [int(color[place : place + 2], 16) / 255 for place in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    def contrast(first: str, second: str) -> float:
        low, high = sorted([luminance(first), luminance(second)])
        return (high + 0.05) / (low + 0.05)

    themes = [
        dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", block)) for block in re.findall(r":root \{(.*?)\}", page, re.S)
    ]
    assert len(themes) == 2
    for theme in themes:
        for name in ("ink", "muted", "accent"):
            assert contrast(theme[name], theme["paper"]) >= 4.5
            assert contrast(theme[name], theme["raised"]) >= 4.5
        for name in (name for name in theme if name.startswith("series")):
            assert contrast(theme[name], theme["paper"]) >= 3.0


def test_figures_of_the_ladder_are_on_the_page(values: ReportValues, page: str) -> None:
    for name, rung in values.evaluation["rungs"].items():
        assert f"{rung['auc']:.3f}" in page, name
    assert "ThinkRec with expert routing reaches an AUC of" in page
    assert "MovieLens-100K" in page
    assert "seed: 7" in page


def test_missing_parts_are_left_out_or_said(values: ReportValues) -> None:
    bare = render_report(ReportValues(config=values.config, evaluation=values.evaluation))
    assert Tags(bare).open == []
    for said in ("wrote no explanations", "No expert adapters", "not clustered", "no reasoning batches were trained"):
        assert said in bare


def test_undefined_figures_are_dashes(values: ReportValues) -> None:
    rng = np.random.default_rng(2)
    scores = {"bias": [1.0, 2.0], "thinkrec_experts": [1.0, 1.5]}
    one_class = evaluate_ladder([1, 1], [1, 1], [True, True], scores, "bias", 10, rng)
    shown = render_report(replace(values, evaluation=one_class))
    assert Tags(shown).open == []
    assert "all of them have the same label" in shown
    assert not re.search(r"\bnan\b", re.sub(r"<svg.*?</svg>", "", shown, flags=re.DOTALL), flags=re.IGNORECASE)


def test_tables_of_statistics() -> None:
    rows = split_rows({"rows": {"train": 1200, "valid": 3, "test": 4}, "test": {"auc": 0.5}, "items": 9})
    assert [(row.name, [cell.value for cell in row.cells]) for row in rows] == [
        ("AUC", ["–", "–", "0.5"]),
        ("Rows", ["1,200", "3", "4"]),
    ]
    assert facts({"a_b": 1200, "deep": {"x": True}, "rows": {"train": 1}, "none": None, "long": list(range(99))}) == [
        ("A b", "1,200"),
        ("Deep: x", "yes"),
        ("None", "–"),
    ]


def test_gate_shares_name_who_speaks() -> None:
    assert gate_shares([1.0, 0.0, 0.0]) == []
    assert gate_shares([0.0, 0.0, 1.0]) == [("expert 1", "100%")]
    assert gate_shares([0.25, 0.75]) == [("general", "25%"), ("expert 0", "75%")]
