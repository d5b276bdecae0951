"""The summary of a run in words: stages, ladder, explanations, and where everything lies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from thinkrec_core.report.words import NONE, figure, money, rung_name, signed

EXPLANATIONS = 2
"""Explanations that are shown; the report has all."""


def print_summary(console: Console, summary: Mapping[str, Any]) -> None:
    """Print `summary`, as `flows.summary.summarise` gives it."""
    console.print()
    console.print(_stages(summary["stages"]))
    if summary["all_cached"]:
        console.print("nothing to do: all stages cached", style="bold")
    console.print(ladder_table(summary))
    console.print(Text(summary["headline"]))
    accepted, rejected = summary["reflections"]["accepted"], summary["reflections"]["rejected"]
    console.print(f"Reflections: {accepted} accepted, {rejected} rejected.")
    if summary["teacher"]["cost"] is not None:
        console.print(f"They cost {money(summary['teacher']['cost'])}, answers of earlier runs included.")
    if not accepted:
        console.print("No reflection could be trained on: the mix had no reasoning batches.")
    for told in summary["explanations"][:EXPLANATIONS]:
        console.print(_explanation(told))
    console.print()
    for name, place in _places(summary):
        console.print(Text(f"{name:<12} {place}"))


def _stages(stages: Mapping[str, Any]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    table.add_column("Stage")
    table.add_column("Seconds", justify="right")
    table.add_column("")
    for name, stage in stages.items():
        table.add_row(
            name, f"{stage['seconds']:.1f}", stage["status"], style="dim" if stage["status"] == "cached" else ""
        )
    return table


def ladder_table(summary: Mapping[str, Any]) -> Table:
    """The table of all rungs; 78 columns wide, so that it fits a plain terminal."""
    floor = rung_name(summary["floor"]).lower()
    title = f"{summary['rows']} test rows of {summary['users']} users, 95% intervals by user; +/-: AUC against {floor}"
    table = Table(
        box=box.SIMPLE_HEAD,
        show_edge=False,
        padding=(0, 1, 0, 0),
        pad_edge=False,
        title=Text(title),
        title_justify="left",
    )
    table.add_column("Rung", no_wrap=True)
    for heading in ("AUC", "95%", "+/-", "UAUC", "95%", "NDCG@5"):
        table.add_column(Text(heading), justify="right", no_wrap=True)
    for name, rung in summary["rungs"].items():
        gain = "" if name == summary["floor"] else _short(signed(rung["versus_floor"]["auc"]["difference"]))
        cells = [figure(rung["auc"]), _interval(rung["auc_ci"]), gain, figure(rung["uauc"]), _interval(rung["uauc_ci"])]
        table.add_row(rung_name(name), *map(_short, cells), _short(figure(rung["ndcg@5"])))
    return table


def _interval(bounds: Sequence[float] | None) -> str:
    return f"{_short(figure(bounds[0]))}–{_short(figure(bounds[1]))}" if bounds else NONE


def _short(text: str) -> str:
    """Without the zero before the point: ".745"."""
    return text.replace("0.", ".", 1) if text.lstrip("+−").startswith("0.") else text


def _explanation(told: Mapping[str, Any]) -> Text:
    verdict = "liked it" if told["label"] else "did not like it"
    text = Text(f"\nUser {told['user_id']}, {told['title']} ({verdict}; route {told['route']}):\n", style="bold")
    return text.append(f"  {' '.join(told['text'].split())}", style="not bold")


def _places(summary: Mapping[str, Any]) -> list[tuple[str, str]]:
    places = [("report", summary["report"]), ("predictions", summary["predictions"])]
    places += [(f"{name}", path) for name, path in summary["adapters"].items()]
    run = summary["mlflow_run"]
    places.append(("MLflow run", f"{run}  (thinkrec ui opens it)" if run else "not tracked"))
    return places
