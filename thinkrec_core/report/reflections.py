"""What the teacher did, for a report: acceptance, rounds, tokens, cost, leaks, reasons and examples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from thinkrec_core.config.reflections import TeacherConfig
from thinkrec_core.report import words
from thinkrec_core.report.templates import STYLE, template_environment

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PAGE, SECTION = "reflections_page.html.j2", "reflections.html.j2"
PARTS = (STYLE, SECTION)
"""Templates that the page includes."""


def render_reflections(summary: Mapping[str, Any], traces: Sequence[Mapping[str, Any]], teacher: TeacherConfig) -> str:
    """A page about the teacher alone, equal bytes for equal values.

    Args:
        summary: of the stage `reflections` or `reference_traces`.
        traces: a few rows of its table.
        teacher: its prices are used.
    """
    environment = template_environment()
    environment.globals.update(words=words)
    split = summary["split"]
    return environment.get_template(PAGE).render(
        lead=lead(summary),
        heading="Reflections on wrong predictions" if split == "train" else f"Reference traces of {split} rows",
        taught=taught(summary, teacher),
        traces=traces,
    )


def lead(summary: Mapping[str, Any]) -> str:
    """One sentence: who was asked about what, and how much of it was accepted."""
    rows = _rows(summary)
    what = "wrong predictions" if summary.get("split", "train") == "train" else f"{summary['split']} rows"
    return (
        f"{summary['model']} was asked about {rows:,} {what}; {summary['accepted']:,} traces were accepted"
        f" ({words.percent(summary['accepted'], rows)})."
    )


def taught(summary: Mapping[str, Any], teacher: TeacherConfig) -> dict[str, Any]:
    """The values of the template reflections.html.j2: facts, note, rounds (an SVG) and reasons; {} without a summary."""
    if not summary.get("rounds"):
        return {}
    rows = _rows(summary)
    return {
        "facts": facts(summary, teacher),
        "note": summary.get("note", ""),
        "rounds": Markup(rounds_figure(summary)),
        "reasons": [
            (reason, f"{count:,}", words.percent(count, rows))
            for reason, count in sorted(summary["reasons"].items(), key=lambda pair: (-pair[1], pair[0]))
        ],
    }


def facts(summary: Mapping[str, Any], teacher: TeacherConfig) -> list[tuple[str, str]]:
    """(words, text) of the figures of a teacher."""
    rows, accepted, right = _rows(summary), summary["accepted"], summary["right_verdicts"]
    prompt, completion = summary["prompt_tokens"], summary["completion_tokens"]
    answers = sum(int(rounds) * count for rounds, count in summary["rounds"].items())
    return [
        ("Accepted", f"{accepted:,} of {rows:,} ({words.percent(accepted, rows)})"),
        ("Right in the end", f"{right:,} of {rows:,} ({words.percent(right, rows)})"),
        ("Speaks of the hint", f"{summary['leaked']:,} of {right:,} ({words.percent(summary['leaked'], right)})"),
        ("Answers", f"{answers:,}, {answers / rows:.2f} per row" if rows else "none"),
        ("Tokens", f"{prompt + completion:,}: {prompt:,} in prompts, {completion:,} in answers"),
        ("Cost", _cost(summary, teacher)),
        ("Teacher", str(summary["model"])),
        ("Prompts", f"version {summary['prompt_version']}"),
    ]


def rounds_figure(summary: Mapping[str, Any]) -> str:
    """A bar per number of rounds: accepted, and on top of it rejected."""
    # matplotlib: a run that finds its report in the store need not load it
    from matplotlib.ticker import MaxNLocator

    from thinkrec_core.report.svg import MUTED, PAPER, draw, quiet, series_color

    rounds = {int(number): count for number, count in summary["rounds"].items()}
    accepted = {int(number): count for number, count in summary["accepted_rounds"].items()}
    places = range(min(rounds), max(rounds) + 1)

    def paint(picture: Figure) -> None:
        axes = picture.add_subplot()
        good = [accepted.get(place, 0) for place in places]
        bad = [rounds.get(place, 0) - accepted.get(place, 0) for place in places]
        axes.bar(places, good, width=0.7, color=series_color(0), edgecolor=PAPER, label="accepted")
        axes.bar(places, bad, width=0.7, bottom=good, color=MUTED, edgecolor=PAPER, label="rejected")
        axes.set_xticks(places)
        axes.set_xlabel("rounds")
        axes.set_ylabel("rows")
        axes.set_ylim(0, max(rounds.values()) * 1.25)
        axes.legend(loc="upper center", ncols=2)
        axes.yaxis.set_major_locator(MaxNLocator(4, integer=True))
        quiet(axes)

    return draw("rounds", "Rows by the number of rounds", 190, paint)


def cost(summary: Mapping[str, Any], teacher: TeacherConfig) -> float | None:
    """What all answers of `summary` cost by the price table, paid in this run or an earlier one; None without a price."""
    price = teacher.price
    return price.cost(summary["prompt_tokens"], summary["completion_tokens"]) if price else None


def _cost(summary: Mapping[str, Any], teacher: TeacherConfig) -> str:
    whole = cost(summary, teacher)
    if whole is None:
        return f"unknown: teacher.prices does not name {teacher.model}"
    per = f", {words.money(whole / summary['accepted'])} per accepted trace" if summary["accepted"] else ""
    return f"{words.money(whole)}{per}"


def _rows(summary: Mapping[str, Any]) -> int:
    return int(summary["accepted"]) + int(summary["rejected"])
