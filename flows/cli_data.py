"""`thinkrec data ...`: data sets made and prepared."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.options import Assignments, ConfigFile, Json, PresetName
from thinkrec_core.errors import PlatformError

if TYPE_CHECKING:
    from thinkrec_core.config.root import ThinkRecConfig

app = typer.Typer(help="Make and prepare data sets.", no_args_is_help=True)

OutFolder = Annotated[Path, typer.Option("--out", "-o", help="Folder to write; it must be new or empty.")]
Source = Annotated[str, typer.Argument(help="ml-100k, synthetic, a folder, a file, or a data set that append fills.")]
Format = Annotated[
    str,
    typer.Option(
        "--format", help="auto, movielens, movietweetings, amazon, yelp, recbole, canonical, snapshots or table."
    ),
]
Columns = Annotated[str, typer.Option(help="Columns of a table: user=uid,item=iid,rating=stars,timestamp=time.")]
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
    source: Source,
    out: OutFolder,
    form: Format = "auto",
    columns: Columns = "",
    preset: PresetName = "quickstart",
    config: ConfigFile = None,
    assignments: Assignments = None,
    as_json: Json = False,
) -> None:
    """Label, split, number and check interactions; the fields data.* are those of a run."""
    from flows.output import Output
    from storage.prepare_folder import prepare_folder
    from thinkrec_core.report.data_words import report_lines, warnings

    resolved = _resolved(preset, config, assignments, source, form, columns)
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
            "warnings": warnings(found),
            "statistics": {name: value for name, value in found.items() if name != "seconds"},
        }
    )


@app.command()
def append(
    source: Source,
    to: Annotated[Path, typer.Option("--to", help="Data set to add to; a new or empty folder begins one.")],
    form: Format = "auto",
    columns: Columns = "",
    preset: PresetName = "quickstart",
    config: ConfigFile = None,
    assignments: Assignments = None,
    as_json: Json = False,
) -> None:
    """Add a source to a data set as its next snapshot; ids of known users and items stay as they are."""
    from deployments.events import announce_snapshot
    from flows.output import Output
    from storage.home import store_root
    from storage.snapshots import append_snapshot

    resolved = _resolved(preset, config, assignments, source, form, columns)
    output = Output(as_json)
    found = append_snapshot(resolved.data, to, output.say)
    told = False
    try:
        told = found.added and announce_snapshot(store_root(), to, found.snapshot, found.rows)
    except PlatformError as error:  # the snapshot is there, whoever hears of it
        output.say(str(error))
    if found.added:
        output.say(f"{found.rows:,} rows are in {found.path}; rejected {found.rejected:,}")
        output.say("thinkrec/on-new-data was told" if told else "no platform runs (thinkrec up): no run was started")
    else:
        output.say(f"nothing was added: {found.path} holds the same {found.rows:,} rows")
    output.result(
        {
            "dataset": str(to),
            "snapshot": found.snapshot,
            "added": found.added,
            "announced": told,
            "rows": found.rows,
            "rejected": found.rejected,
            "items": found.items,
        }
    )


def _resolved(
    preset: str, config: Path | None, assignments: list[str] | None, source: str, form: str, columns: str
) -> ThinkRecConfig:
    from flows.config import resolve, user_layers
    from flows.config_layers import mapping_layer

    given: dict[str, object] = {"data.source": source, "data.format": form}
    if columns:
        given["data.columns"] = _mapping(columns)
    return resolve(preset, [*user_layers(config, assignments or []), mapping_layer("the command line", given)])


def _mapping(text: str) -> dict[str, str]:
    pairs = [pair.partition("=") for pair in text.split(",")]
    if not all(word and equals and name for word, equals, name in pairs):
        raise typer.BadParameter(f"--columns {text!r} is no mapping; expected user=uid,item=iid,...")
    return {word.strip(): name.strip() for word, _, name in pairs}
