"""`thinkrec teacher serve`: the local teacher on its own, for several runs in a row or for a program of one's own."""

from __future__ import annotations

import signal
from typing import Annotated, Any

import typer

from flows.options import Assignments, ConfigFile, Json, PresetName

app = typer.Typer(help="The local teacher.", no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def teacher() -> None:
    """The local teacher."""


@app.command()
def serve(
    model: Annotated[
        str | None, typer.Option(help="smollm2-135m, a folder or a Hugging Face id; else teacher.model of the preset.")
    ] = None,
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="Port on 127.0.0.1; else a free one.")] = None,
    preset: PresetName = "quickstart",
    config: ConfigFile = None,
    assignments: Assignments = None,
    as_json: Json = False,
) -> None:
    """Serve a small model as an OpenAI-compatible teacher on 127.0.0.1 until Ctrl-C."""
    from flows.config import resolve, user_layers
    from flows.config_layers import mapping_layer
    from flows.output import Output
    from storage.home import logs_folder, store_root
    from storage.models import resolve_model
    from tasks.teacher.server import served_teacher
    from thinkrec_core.errors import TeacherError

    given: dict[str, Any] = {"teacher.model": model, "teacher.port": port}
    options = {name: value for name, value in given.items() if value is not None}
    layers = [*user_layers(config, assignments or []), mapping_layer("the command line", options)]
    wanted = resolve(preset, layers).teacher
    found = resolve_model(wanted.model)
    output = Output(as_json)
    output.say(f"starting {wanted.model}, {wanted.concurrency} requests at a time (teacher.concurrency)")
    for number in (signal.SIGINT, signal.SIGTERM):  # by a service manager as by Ctrl-C, in the background as in front
        signal.signal(number, signal.default_int_handler)
    with served_teacher(wanted, found.path, logs_folder(store_root()) / "teacher.log") as (endpoint, server):
        output.say(f"teacher  {endpoint.base_url}\nmodel    {endpoint.wire_model}\nlog      {server.log}")
        output.say(
            "ready; Ctrl-C ends it. A run asks it with\n\n"
            f"    --set teacher.base_url={endpoint.base_url} --set teacher.model={endpoint.wire_model}\n"
        )
        health = endpoint.base_url.removesuffix("/v1") + "/health"
        values = {"base_url": endpoint.base_url, "model": endpoint.wire_model, "health": health}
        try:  # from the line on that says it is ready: whoever reads it may end it at once
            output.result({**values, "log": str(server.log)})
            code = server.wait()
        except KeyboardInterrupt:
            output.say("ended")
            return
        raise TeacherError(f"the local teacher ended with code {code}", next_step=f"see {server.log}")
