"""The section about the teacher: its figures by hand, and what it says where something is missing."""

from __future__ import annotations

from typing import Any

from thinkrec_core.config.reflections import TeacherConfig
from thinkrec_core.report.reflections import facts, lead, render_reflections, taught
from thinkrec_core.report.words import money, percent

SUMMARY: dict[str, Any] = {
    "split": "train",
    "accepted": 5,
    "rejected": 3,
    "reasons": {"leaked hint": 1, "wrong verdict": 2},
    "rounds": {"1": 4, "3": 4},
    "accepted_rounds": {"1": 4, "3": 1},
    "right_verdicts": 6,
    "leaked": 1,
    "prompt_tokens": 2_000_000,
    "completion_tokens": 500_000,
    "model": "m<b>",
    "prompt_version": "2",
    "note": "",
}
TRACE = {"row": 4, "label": 1, "verdict": "yes", "rounds": 1, "accepted": True, "reason": "", "trace": "<i>why</i>"}
PRICED = TeacherConfig.model_validate({"model": "m", "prices": {"m": {"input": 0.5, "output": 4.0}}})


def test_figures_by_hand() -> None:
    assert dict(facts(SUMMARY, PRICED)) == {
        "Accepted": "5 of 8 (62.5%)",
        "Right in the end": "6 of 8 (75.0%)",
        "Speaks of the hint": "1 of 6 (16.7%)",
        "Answers": "16, 2.00 per row",
        "Tokens": "2,500,000: 2,000,000 in prompts, 500,000 in answers",
        "Cost": "3.00, 0.6 per accepted trace",
        "Teacher": "m<b>",
        "Prompts": "version 2",
    }
    assert lead(SUMMARY) == "m<b> was asked about 8 wrong predictions; 5 traces were accepted (62.5%)."
    assert taught(SUMMARY, PRICED)["reasons"] == [("wrong verdict", "2", "25.0%"), ("leaked hint", "1", "12.5%")]


def test_the_page_escapes_what_came_from_outside_and_repeats_its_bytes() -> None:
    page = render_reflections(SUMMARY, [TRACE], PRICED)
    assert page == render_reflections(SUMMARY, [TRACE], PRICED)
    assert "&lt;i&gt;why&lt;/i&gt;" in page
    assert "<b>" not in page
    assert page.count("<svg") == 1
    assert "Why rows were rejected" in page


def test_without_price_rows_or_summary() -> None:
    assert dict(facts(SUMMARY, TeacherConfig()))["Cost"] == "unknown: teacher.prices does not name smollm2-135m"
    nothing = {**SUMMARY, "accepted": 0, "right_verdicts": 0, "leaked": 0, "reasons": {}, "accepted_rounds": {}}
    none_right = dict(facts(nothing, PRICED))
    assert (none_right["Speaks of the hint"], none_right["Cost"]) == ("0 of 0 (–)", "3.00")
    assert "<svg" in render_reflections({**nothing, "split": "test"}, [], PRICED)
    assert taught({}, PRICED) == {}
    assert taught({"accepted": 0, "rejected": 0, "rounds": {}}, PRICED) == {}


def test_amounts_and_shares_in_words() -> None:
    assert [money(value) for value in (0, 0.000152, 0.5, 1, 1234.5)] == ["0.00", "0.000152", "0.5", "1.00", "1,234.50"]
    assert [percent(1, 3), percent(0, 0)] == ["33.3%", "–"]
