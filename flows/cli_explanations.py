"""`thinkrec explanations`: the student's reasons beside the teacher's on the same held-out rows."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from flows.options import Assignments, ConfigFile, Json, PresetName

Rows = Annotated[int | None, typer.Option("--rows", min=1, help="Held-out rows that the teacher explains.")]
Split = Annotated[str | None, typer.Option("--split", help="Where they are from: test or valid.")]
Encoder = Annotated[
    Path | None, typer.Option("--encoder", help="Folder of a text encoder, for embedding cosine and BERTScore.")
]


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("explanations")(explanations_command)


def explanations_command(
    preset: PresetName = "quickstart",
    rows: Rows = None,
    split: Split = None,
    encoder: Encoder = None,
    config: ConfigFile = None,
    assignments: Assignments = None,
    as_json: Json = False,
) -> None:
    """Measure the student's explanations against the teacher's."""
    from flows.config import resolve, user_layers
    from flows.config_layers import mapping_layer, merged
    from flows.output import Output
    from flows.prefect_api import PrefectAPI
    from flows.preflight import preflight_explanations
    from storage.home import store_root

    layers = user_layers(config, assignments or [])
    for option, field, value in (
        ("rows", "rows", rows),
        ("split", "split", split),
        ("encoder", "embedding_model", encoder),
    ):
        if value is not None:
            given = str(value.absolute()) if isinstance(value, Path) else value
            layers.append(mapping_layer(f"--{option} {value}", {f"explanations.{field}": given}))
    root = store_root()
    preflight_explanations(
        resolve(preset, layers), root
    )  # here too, so that a mistake is told before any server starts
    output = Output(as_json)
    output.say(f"thinkrec explanations, preset {preset}, store {root}")
    with PrefectAPI(root) as api:
        from flows.explanations import explanations
        from flows.logs import route_logs
        from flows.views import showing

        route_logs(root, output.view)
        api.wait()
        with showing(output.view):
            summary = explanations(preset=preset, overrides=merged(layers))
    if output.console is not None:
        _print(output.console, summary)
    output.result(summary)


def _print(console: Any, summary: Mapping[str, Any]) -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from thinkrec_core.report.explanation_tables import figure_rows, sentences

    references = summary["references"]
    title = (
        f"{summary['rows']} rows of {summary['users']} users, split {summary['split']}; "
        f"references: {references['accepted']} accepted traces of {references['model'].partition('@')[0]}, "
        f"{references['rejected']} rejected"
    )
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, title=Text(title), title_justify="left")
    table.add_column("Figure", no_wrap=True)
    for heading in ("value", "95%", "floor", "+/-", "95%", "rows"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in figure_rows(summary):
        value, floor, over, count = row.cells
        interval = over.below.split(", p")[0]
        table.add_row(
            row.name, *map(_short, (value.value, value.below, floor.value, over.value, interval)), count.value
        )
    console.print()
    console.print(table)
    for sentence in sentences(summary):
        console.print(Text(sentence))
    if references["note"]:
        console.print(Text(references["note"], style="dim"))
    console.print(f"\nreport  {summary['report']}\ntable   {summary['table']}", soft_wrap=True)


def _short(text: str) -> str:
    """Without zeros before the point, intervals with a dash: ".745–.801"."""
    if text.startswith("needs"):
        return "no encoder"
    parts = [part.replace("0.", ".", 1) if part.lstrip("+−").startswith("0.") else part for part in text.split(" to ")]
    return "–".join(parts)
