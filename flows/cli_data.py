"""`thinkrec data ...`: data sets made, prepared and extended."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flows.options import Json

app = typer.Typer(help="Make, prepare and extend data sets.", no_args_is_help=True)

OutFolder = Annotated[Path, typer.Option("--out", "-o", help="Folder to write; it must be new or empty.")]
Seed = Annotated[int, typer.Option(help="Seed; equal seeds give equal files.")]


@app.command()
def synth(
    out: OutFolder,
    users: Annotated[int, typer.Option(min=1, help="Users.")] = 1000,
    items: Annotated[int, typer.Option(min=1, help="Items.")] = 500,
    rows: Annotated[int, typer.Option(min=1, help="Ratings; no user rates an item twice.")] = 50_000,
    clusters: Annotated[int, typer.Option(min=1, help="Taste clusters of users and items.")] = 4,
    drift: Annotated[float, typer.Option(min=0, max=1, help="Share of users whose taste changes.")] = 0.1,
    seed: Seed = 7,
    as_json: Json = False,
) -> None:
    """Make up interactions with a known answer; the planted truth lies in OUT/truth."""
    from flows.output import Output
    from storage.synthetic_folder import write_synthetic
    from thinkrec_core.synthetic import SyntheticSpec

    output = Output(as_json)
    spec = SyntheticSpec(users=users, items=items, rows=rows, clusters=clusters, drift=drift, seed=seed)
    with output.view.progress("rows", rows) as advance:
        written = write_synthetic(spec, out, lambda done: advance(completed=done))
    output.say(f"{written:,} ratings of {users:,} users for {items:,} items are in {out}")
    output.result({"out": str(out), "rows": written, "users": users, "items": items, "seed": seed})
