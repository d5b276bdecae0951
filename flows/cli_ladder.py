"""`thinkrec ladder`: all methods without a language model in one table, and the published figures below it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from flows.options import Assignments, ConfigFile, Json, PresetName

Rungs = Annotated[str | None, typer.Option("--rungs", help="Comma-separated rungs in the order of the table.")]


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("ladder")(ladder_command)


def ladder_command(
    preset: PresetName = "quickstart",
    rungs: Rungs = None,
    config: ConfigFile = None,
    assignments: Assignments = None,
    as_json: Json = False,
) -> None:
    """Measure methods without an LLM on the test rows."""
    from flows.config import resolve, user_layers
    from flows.config_layers import mapping_layer, merged
    from flows.output import Output
    from flows.prefect_api import PrefectAPI
    from storage.home import store_root

    layers = user_layers(config, assignments or [])
    if rungs is not None:
        names = [name.strip() for name in rungs.split(",") if name.strip()]
        layers.append(mapping_layer(f"--rungs {rungs}", {"ladder.rungs": names}))
    resolve(preset, layers)  # here too, so that a mistake is told before any server starts
    root = store_root()
    output = Output(as_json)
    output.say(f"thinkrec ladder, preset {preset}, store {root}")
    with PrefectAPI(root) as api:
        from flows.ladder import ladder
        from flows.logs import route_logs
        from flows.views import showing

        route_logs(root, output.view)
        api.wait()
        with showing(output.view):
            summary = ladder(preset=preset, overrides=merged(layers))
    if output.console is not None:
        _print(output.console, summary)
    output.result(summary)


def _print(console: Any, summary: Mapping[str, Any]) -> None:
    from rich.table import Table

    from flows.terminal import ladder_table
    from thinkrec_core.report.words import figure

    console.print()
    console.print(ladder_table(summary))
    console.print(
        f"Histories {summary['protocol']}; means of {summary['seeds']} seeds where a rung draws random numbers.\n"
    )
    table = Table(
        box=None, pad_edge=False, title="Published elsewhere, each under its own protocol", title_justify="left"
    )
    for heading in ("Data", "Method", "AUC", "UAUC", "Protocol"):
        table.add_column(heading, justify="right" if "AUC" in heading else "left")
    for row in summary["published"]:
        cells = (figure(row["auc"], 4), figure(row["uauc"], 4))
        table.add_row(row["data"], row["method"], *cells, row["protocol"])
    console.print(table)
    console.print(f"\nreport       {summary['report']}\npredictions  {summary['predictions']}", soft_wrap=True)
