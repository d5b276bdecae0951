"""`thinkrec tune ENCODER`: settings of an encoder, searched on valid rows; resumable."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from flows.options import Assignments, ConfigFile, Json, PresetName

Encoder = Annotated[str, typer.Argument(metavar="ENCODER", help="mf, lightgcn, sasrec, ... or package.module:Class.")]
Trials = Annotated[int, typer.Option("--trials", min=1, help="Finished trials that the study shall have in all.")]
By = Annotated[str, typer.Option("--by", help="Valid figure: auc, uauc, auc/4+uauc/3 or log_loss.")]
Seeds = Annotated[int, typer.Option("--seeds", min=1, help="Fits per trial, whose figures are averaged.")]
Ranges = Annotated[
    list[str] | None,
    typer.Option("--range", help="learning_rate=1e-4:1e-2 or embedding_size=16,32. Can be repeated."),
]
Prune = Annotated[bool, typer.Option("--prune/--no-prune", help="End trials early that look bad.")]


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("tune")(tune_command)


def tune_command(
    encoder: Encoder,
    preset: PresetName = "quickstart",
    trials: Trials = 30,
    by: By = "auc",
    seeds: Seeds = 1,
    ranges: Ranges = None,
    prune: Prune = True,
    config: ConfigFile = None,
    assignments: Assignments = None,
    as_json: Json = False,
) -> None:
    """Search an encoder's settings on the valid rows."""
    from flows.config import resolve, user_layers
    from flows.config_layers import merged
    from flows.output import Output
    from flows.prefect_api import PrefectAPI
    from flows.tune_options import checked, figure_of
    from storage.home import store_root

    layers = user_layers(config, assignments or [])
    figure = figure_of(by)
    checked(resolve(preset, layers), encoder, ranges or [])  # a mistake is told before any server starts
    root = store_root()
    output = Output(as_json)
    output.say(f"thinkrec tune {encoder}, preset {preset}, store {root}")
    with PrefectAPI(root) as api:
        from flows.logs import route_logs
        from flows.tune import tune
        from flows.views import showing

        route_logs(root, output.view)
        api.wait()
        with showing(output.view):
            summary = tune(encoder, preset, merged(layers), trials, figure, seeds, ranges or [], prune)
    if output.console is not None:
        _print(output.console, summary)
    output.result(summary)


def _print(console: Any, summary: Mapping[str, Any]) -> None:
    from thinkrec_core.report.words import figure

    best, start = summary["best"], summary["default"]
    console.print(
        f"\n{summary['finished']} trials, {summary['pruned']} of them ended early; study in {summary['folder']}",
        soft_wrap=True,
    )
    if best is None:
        console.print("no trial came to its end; raise --trials, or --no-prune")
        return
    told = ", ".join(f"{name} {figure(value, 4)}" for name, value in best["valid"].items())
    console.print(f"best on valid (chosen there, so somewhat flattering): trial {best['number']}, {told}")
    if start is not None:
        console.print(
            f"settings it started from: {', '.join(f'{k} {figure(v, 4)}' for k, v in start['valid'].items())}"
        )
    console.print("\nfor thinkrec run:\n  " + " \\\n  ".join(summary["set"]), markup=False)
    console.print("\nfor thinkrec ladder:\n  " + " \\\n  ".join(summary["set_ladder"]), markup=False)
    console.print(f"\nboth in a file:  --config {summary['config']}", soft_wrap=True)
