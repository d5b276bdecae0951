"""`thinkrec experts ...`: what the experts of a finished run say to one user."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.options import Json

if TYPE_CHECKING:
    from flows.config_layers import Layer

app = typer.Typer(help="Use the experts of a finished run.", no_args_is_help=True, rich_markup_mode=None)

User = Annotated[str, typer.Option("--user", help="Raw user id, as in the source data.")]
OutFolder = Annotated[Path, typer.Option("--out", "-o", help="Folder to write; it must be new or empty.")]
RunName = Annotated[str | None, typer.Option("--run", help="Name of a finished run; the newest if not given.")]
Number = Annotated[
    str | None,
    typer.Option(
        "--experts", metavar="N|auto|silhouette", help="Number of experts; auto compares 1 to 6 on valid rows."
    ),
]


def number_layers(number: str | None) -> list[Layer]:
    """What `--experts` says as fields of the configuration."""
    if number is None:
        return []
    from flows.config_layers import mapping_layer

    fields: dict[str, object]
    if number.isdecimal():
        fields = {"experts.choose": "count", "experts.count": int(number)}
    elif number in ("auto", "silhouette"):
        fields = {"experts.choose": "valid" if number == "auto" else number}
    else:
        raise typer.BadParameter(
            f"--experts {number!r} is no number of experts; expected 1, 2, ..., auto or silhouette"
        )
    return [mapping_layer(f"--experts {number}", fields)]


@app.command()
def export(user: User, out: OutFolder, run: RunName = None, as_json: Json = False) -> None:
    """Write one user's adapter as a plain PEFT folder: general, one expert, or their exact fusion."""
    from flows.output import Output
    from storage.finished_run import finished_run, user_index
    from storage.fused_adapter import save_fused
    from storage.home import store_root
    from storage.new_folder import new_folder
    from storage.rec_data import load_routes
    from storage.store import ArtifactStore
    from thinkrec_core.config.experts import RouterConfig
    from thinkrec_core.experts.router import columns_of

    output, store = Output(as_json), ArtifactStore(store_root())
    found = finished_run(store, run)
    router = RouterConfig.model_validate(found.summary["config"]["experts"]["router"])
    routes = load_routes(store.path(found.clusters), router)
    index = user_index(store.path(found.data), user)
    gates = routes.gates[index, columns_of(found.experts)].tolist()
    route = str(routes.route[index])
    with new_folder(out) as folder:
        rank = save_fused(folder, [store.path(ref) for ref in (found.general, *found.experts.values())], gates)
    names = ["general", *(f"expert_{number}" for number in found.experts)]
    shares = {name: gate for name, gate in zip(names, gates, strict=True) if gate}
    spoken = ", ".join(f"{name} {share:.3f}" for name, share in shares.items())
    output.say(
        f"user {user} of run {found.name}: route {route}, {spoken}; a PEFT adapter of rank {rank} is in {out}/adapter"
    )
    output.result({"run": found.name, "user": user, "route": route, "gates": shares, "rank": rank, "out": str(out)})


@app.command()
def add(
    source: Annotated[str, typer.Option("--source", help="The data of the run, with newcomers appended.")],
    run: RunName = None,
    as_json: Json = False,
) -> None:
    """Train one more expert, for users that came after a run; the others stay as they are."""
    from flows.output import Output
    from flows.prefect_api import PrefectAPI
    from storage.finished_run import finished_run
    from storage.home import store_root
    from storage.store import ArtifactStore

    root = store_root()
    finished_run(ArtifactStore(root), run)  # here too, so that a mistake is told before any server starts
    output = Output(as_json)
    with PrefectAPI(root) as api:
        from flows.logs import route_logs
        from flows.newcomers import add_expert
        from flows.views import showing

        route_logs(root, output.view)
        api.wait()
        with showing(output.view):
            summary = add_expert(source, run)
    found = summary["newcomers"]
    what = f"{found['users']} newcomers with {found['train_rows']} train rows are cluster {found['cluster']}"
    kept = "" if found["trained"] else "; too few rows for an expert, they keep the general adapter"
    output.say(f"{what} of run {summary['run']}{kept}")
    output.result(summary)
