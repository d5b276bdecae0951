"""The words and numbers of a report: names of rungs, formats, and the headline that says what the LLM adds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

RUNG_NAMES = {
    "popularity": "Popularity",
    "item_mean": "Item mean",
    "bias": "User and item bias",
    "bias_streaming": "Bias, streaming",
    "mf": "MF",
    "lightgcn": "LightGCN",
    "sasrec": "SASRec",
    "din": "DIN",
    "dcn": "DCN",
    "own": "Own encoder",
    "mf_published": "MF, as published",
    "lightgcn_published": "LightGCN, as published",
    "sasrec_published": "SASRec, as published",
    "stacker": "Stacker",
    "stacker_uauc": "Stacker, for UAUC",
    "encoder": "CF encoder",
    "zero_shot": "LLM, untrained",
    "thinkrec_general_llm": "ThinkRec general, LLM score",
    "thinkrec_experts_llm": "ThinkRec experts, LLM score",
    "thinkrec_general": "ThinkRec general",
    "thinkrec_experts": "ThinkRec experts",
}
HEADLINES = {
    "thinkrec_experts": "ThinkRec with expert routing",
    "thinkrec_general": "ThinkRec with its general adapter",
    "thinkrec_experts_llm": "ThinkRec with expert routing, by the LLM's score alone,",
    "thinkrec_general_llm": "ThinkRec with its general adapter, by the LLM's score alone,",
    "zero_shot": "The untrained LLM",
}
"""The first of these that was scored is the headline: fixed in advance, since picking the best would flatter it."""
NONE = "–"


def rung_name(name: str) -> str:
    """The readable name of a rung; an unknown one as it is."""
    return RUNG_NAMES.get(name, name.replace("_", " "))


def is_llm(name: str) -> bool:
    """True for rungs whose score comes from the LLM."""
    return name.startswith("thinkrec") or name == "zero_shot"


def figure(value: float | None, digits: int = 3) -> str:
    """`value` with fixed decimals, a dash for None: .7123 gives "0.712"."""
    return NONE if value is None else f"{value:.{digits}f}".replace("-", "−")


def signed(value: float | None, digits: int = 3) -> str:
    """`value` with its sign: "+0.012", "−0.003", "0.000" for what rounds to zero."""
    if value is None:
        return NONE
    if round(abs(value), digits) == 0:
        return f"{0:.{digits}f}"
    return f"{value:+.{digits}f}".replace("-", "−")


def interval(bounds: Sequence[float] | None, with_sign: bool = False) -> str:
    """ "0.701 to 0.745", or a dash where there is none."""
    if not bounds:
        return NONE
    show = signed if with_sign else figure
    return f"{show(bounds[0])} to {show(bounds[1])}"


def p_text(value: float | None) -> str:
    """ "p = 0.031", or "" where there is none."""
    return "" if value is None else f"p = {value:.3f}" if value >= 0.001 else "p < 0.001"


def count(value: int, noun: str) -> str:
    """ "1 row", "1,200 rows"."""
    return f"{value:,} {noun}" if value == 1 else f"{value:,} {noun}s"


def percent(part: int, whole: int) -> str:
    """ "71.9%", or a dash where there is no whole."""
    return f"{part / whole:.1%}" if whole else NONE


def money(value: float) -> str:
    """An amount in the currency of the price table: "1,234.50", and below one four significant digits."""
    return f"{value:,.2f}" if value >= 1 or value == 0 else f"{value:.4g}"


def headline_rung(evaluation: Mapping[str, Any]) -> str | None:
    """The LLM rung that the headline speaks about; None if no LLM was scored."""
    return next((name for name in HEADLINES if name in evaluation["rungs"]), None)


def headline(evaluation: Mapping[str, Any]) -> tuple[str, str]:
    """What ThinkRec reached, and whether it beats the floor by the paired interval.

    The verdict is read off the 95% interval of the paired AUC difference and nothing else: above zero, below zero, or
    neither. Where the interval of the UAUC difference leaves zero out, that is told too: a gain over all rows can come
    with a loss within users.
    """
    floor, rungs = evaluation["floor"], evaluation["rungs"]
    where = f"{count(evaluation['rows'], 'test row')} of {count(evaluation['users'], 'user')}"
    name = headline_rung(evaluation)
    if name is None:
        floor_auc = figure(rungs[floor]["auc"])
        return (
            f"This run scored no language model; the floor, {rung_name(floor).lower()}, reaches an AUC of {floor_auc}"
            f" on {where}.",
            "It says nothing about what an LLM would add.",
        )
    rung = rungs[name]
    if rung["auc"] is None:
        return (
            f"{HEADLINES[name]} was scored on {where}, but all of them have the same label.",
            "AUC is undefined there, so the run cannot be compared with the floor.",
        )
    first = (
        f"{HEADLINES[name]} reaches an AUC of {figure(rung['auc'])} on {where}; the floor,"
        f" {rung_name(floor).lower()}, reaches {figure(rungs[floor]['auc'])}."
    )
    versus = rung["versus_floor"]["auc"]
    difference = f"The paired difference of {signed(versus['difference'])}"
    if not versus["ci"]:
        return first, f"{difference} has no interval on so few users, so nothing follows from it."
    low, high = versus["ci"]
    spread = f"{difference} has a 95% interval from {signed(low)} to {signed(high)}"
    if low > 0:
        verdict = ": it beats the floor on these rows."
    elif high < 0:
        verdict = ": on these rows it does worse than a floor that needs no language model."
    else:
        verdict = ", which contains zero: these rows do not show that it beats the floor."
    return first, spread + verdict + _within_users(rung["versus_floor"]["uauc"])


def _within_users(versus: Mapping[str, Any]) -> str:
    if not versus["ci"] or versus["ci"][0] <= 0 <= versus["ci"][1]:
        return ""
    kind = "better" if versus["difference"] > 0 else "worse"
    told = f"UAUC {signed(versus['difference'])}, 95% interval {interval(versus['ci'], with_sign=True)}"
    return f" Within users it ranks {kind} than the floor ({told})."


def addition(evaluation: Mapping[str, Any]) -> str:
    """One sentence that compares the headline rung with the CF encoder; "" where one of them was not scored.

    Where the encoder's logit is part of the score, this difference is what the LLM adds.
    """
    name = headline_rung(evaluation)
    versus = evaluation["rungs"][name].get("versus_encoder") if name else None
    if not versus or not versus["auc"]["ci"]:
        return ""
    low, high = versus["auc"]["ci"]
    verdict = "above zero" if low > 0 else "below zero" if high < 0 else "not distinguishable from zero"
    parts = [
        f"{signed(versus[key]['difference'])} in {label} (95% interval {interval(versus[key]['ci'], with_sign=True)})"
        for key, label in (("auc", "AUC"), ("uauc", "UAUC"))
        if versus[key]["ci"]
    ]
    return f"Against the CF encoder, whose vectors it reads: {' and '.join(parts)}; in AUC that is {verdict}."
