"""`thinkrec data ...`: data sets made and prepared."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flows.options import Assignments, ConfigFile, Json, PresetName

app = typer.Typer(help="Make and prepare data sets.", no_args_is_help=True)

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


@app.command()
def prepare(
    source: Annotated[str, typer.Argument(help="ml-100k, a folder or a file.")],
    out: OutFolder,
    form: Annotated[
        str,
        typer.Option("--format", help="auto, movielens, movietweetings, amazon, yelp, recbole, canonical or table."),
    ] = "auto",
    columns: Annotated[
        str, typer.Option(help="Columns of a table: user=uid,item=iid,rating=stars,timestamp=time.")
    ] = "",
    preset: PresetName = "quickstart",
    config: ConfigFile = None,
    assignments: Assignments = None,
    as_json: Json = False,
) -> None:
    """Label, split, number and check interactions; the fields data.* are those of a run."""
    from flows.config import resolve, user_layers
    from flows.config_layers import mapping_layer
    from flows.output import Output
    from storage.prepare_folder import prepare_folder, report_lines

    given: dict[str, object] = {"data.source": source, "data.format": form}
    if columns:
        given["data.columns"] = _mapping(columns)
    resolved = resolve(preset, [*user_layers(config, assignments or []), mapping_layer("the command line", given)])
    output = Output(as_json)
    found = prepare_folder(resolved.data, resolved.seed, out, output.say)
    for line in report_lines(found):
        output.say(line)
    output.say(f"the tables are in {out}")
    output.result(
        {
            "out": str(out),
            "rows": {split: values["rows"] for split, values in found["splits"].items()},
            "users": found["users"],
            "items": found["items"],
            "rejected": found["rejected"],
            "filtered": sum(found["filtered"].values()),
            "seconds": found["seconds"],
            "statistics": {name: value for name, value in found.items() if name != "seconds"},
        }
    )


def _mapping(text: str) -> dict[str, str]:
    pairs = [pair.partition("=") for pair in text.split(",")]
    if not all(word and equals and name for word, equals, name in pairs):
        raise typer.BadParameter(f"--columns {text!r} is no mapping; expected user=uid,item=iid,...")
    return {word.strip(): name.strip() for word, _, name in pairs}
