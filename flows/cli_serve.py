"""`thinkrec serve`: a bundle behind HTTP on 127.0.0.1, with a page."""

from __future__ import annotations

from typing import Annotated

import typer

from flows.cli_bundle import BundleName
from flows.options import Json

Port = Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.")]
Reload = Annotated[float, typer.Option(min=0, help="Seconds between looks for another bundle; 0 for never.")]
Queue = Annotated[int, typer.Option(min=1, help="Requests that may wait; more are answered 429.")]
Seconds = Annotated[float, typer.Option(min=0.1, help="Time limit of a request; longer ones are answered 503.")]
AllowedHost = Annotated[
    list[str] | None,
    typer.Option("--allow-host", help="One more name by which the server may be called, behind a proxy."),
]


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("serve")(serve_command)


def serve_command(
    bundle: BundleName = None,
    port: Port = 8000,
    reload: Reload = 5.0,
    queue: Queue = 64,
    seconds: Seconds = 30.0,
    allow_host: AllowedHost = None,
    as_json: Json = False,
) -> None:
    """Serve recommendations, scores, explanations and a page on 127.0.0.1.

    With THINKREC_SERVE_TOKEN set, requests for data need it as bearer token.
    """
    from flows.cli_bundle import locate_bundle
    from flows.output import Output

    output = Output(as_json)
    folder = locate_bundle(bundle)
    output.say(f"loading the bundle in {folder}")
    from tasks.serving.limits import Limits
    from tasks.serving.server import serve  # loads torch

    def started(url: str, run: str) -> None:
        output.say(f"bundle {run} on {url}; Ctrl-C ends it")
        output.result({"url": url, "bundle": run})

    # Without a name the newest run was meant, as of now; a named bundle is followed to where its name leads later.
    serve(
        lambda: folder if bundle is None else locate_bundle(bundle),
        Limits(queue=queue, seconds=seconds),
        port,
        reload or None,
        tuple(allow_host or ()),
        started,
    )
