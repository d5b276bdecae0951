"""The headline says what the paired interval says, and numbers keep their signs."""

from __future__ import annotations

from typing import Any

import pytest

from thinkrec_core.report.words import addition, figure, headline, interval, p_text, signed


def evaluation(ci: list[float] | None, difference: float = 0.02, auc: float | None = 0.72) -> dict[str, Any]:
    versus = {"auc": {"difference": difference, "ci": ci, "p": 0.2}, "uauc": {"difference": 0.1, "ci": None, "p": None}}
    rung = {"auc": auc, "versus_floor": versus, "versus_encoder": versus}
    floor = {"auc": 0.7, "versus_floor": {}}
    return {
        "rows": 1200,
        "users": 1,
        "floor": "bias",
        "rungs": {"bias": floor, "zero_shot": rung, "thinkrec_general": rung},
    }


@pytest.mark.parametrize(
    ("ci", "told"),
    [
        ([0.001, 0.04], "it beats the floor on these rows."),
        ([-0.04, -0.001], "it does worse than a floor that needs no language model."),
        ([-0.01, 0.05], "contains zero: these rows do not show that it beats the floor."),
        (None, "nothing follows from it."),
    ],
)
def test_verdict_follows_the_paired_interval(ci: list[float] | None, told: str) -> None:
    first, second = headline(evaluation(ci))
    assert first == (
        "ThinkRec with its general adapter reaches an AUC of 0.720 on 1,200 test rows of 1 user;"
        " the floor, user and item bias, reaches 0.700."
    )
    assert second.endswith(told)
    assert "+0.020" in second


@pytest.mark.parametrize(
    ("ci", "told"),
    [
        ([-0.15, -0.015], " Within users it ranks worse than the floor (UAUC −0.074, 95% interval −0.150 to −0.015)."),
        ([0.01, 0.09], " Within users it ranks better than the floor (UAUC +0.074, 95% interval +0.010 to +0.090)."),
        ([-0.1, 0.2], "these rows do not show that it beats the floor."),
    ],
)
def test_a_difference_within_users_is_told(ci: list[float], told: str) -> None:
    found = evaluation([-0.01, 0.05])
    difference = 0.074 if sum(ci) > 0 else -0.074
    found["rungs"]["thinkrec_general"]["versus_floor"]["uauc"] = {"difference": difference, "ci": ci, "p": 0.01}
    assert headline(found)[1].endswith(told)


def test_one_class_and_no_llm_are_said_plainly() -> None:
    assert "all of them have the same label" in headline(evaluation(None, auc=None))[0]
    without = evaluation(None)
    without["rungs"] = {"bias": without["rungs"]["bias"]}
    assert headline(without)[0].startswith("This run scored no language model")
    assert addition(without) == ""


@pytest.mark.parametrize(
    ("ci", "told"),
    [([0.01, 0.03], "above zero."), ([-0.03, -0.01], "below zero."), ([-0.1, 0.1], "not distinguishable from zero.")],
)
def test_addition_to_the_encoder(ci: list[float], told: str) -> None:
    assert addition(evaluation(ci)).endswith(told)
    assert "UAUC" not in addition(evaluation(ci))  # no interval there


def test_numbers() -> None:
    assert [signed(0.0004), signed(-0.0004), signed(0.05), signed(-0.05), signed(None)] == [
        "0.000",
        "0.000",
        "+0.050",
        "−0.050",
        "–",
    ]
    assert [figure(-1.5, 1), figure(None)] == ["−1.5", "–"]
    assert interval([0.1, 0.2]) == "0.100 to 0.200"
    assert interval([-0.1, 0.2], with_sign=True) == "−0.100 to +0.200"
    assert [p_text(0.0005), p_text(0.031), p_text(None)] == ["p < 0.001", "p = 0.031", ""]
