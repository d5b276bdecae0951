"""`thinkrec reflections`: ask the teacher without training anything, hand its answers on, or ask by batches."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from flows.options import Assignments, ConfigFile, Json, PresetName

app = typer.Typer(help="Ask the teacher; keep, hand on and use its answers.", rich_markup_mode=None)


class Split(StrEnum):
    """Rows that the teacher is asked about."""

    train = "train"
    valid = "valid"
    test = "test"


SplitName = Annotated[
    Split, typer.Option("--split", help="train: the student's mistakes. valid, test: reference traces of a sample.")
]
Rows = Annotated[
    int | None,
    typer.Option("--rows", min=1, help="Rows to ask about; of train, what wrong_predictions.rows says. Else 200."),
]
NewFile = Annotated[Path, typer.Argument(metavar="FILE", help="File to write; it must be new.")]


@app.callback(invoke_without_command=True)
def reflections(
    context: typer.Context,
    split: SplitName = Split.train,
    rows: Rows = None,
    preset: PresetName = "quickstart",
    config: ConfigFile = None,
    assignments: Assignments = None,
    as_json: Json = False,
) -> None:
    """Ask the teacher about the student's mistakes, or for reference traces of held-out rows."""
    if context.invoked_subcommand is not None:
        sources = {name: context.get_parameter_source(name) for name in context.params}
        given = [name for name, source in sources.items() if source is not None and source.name == "COMMANDLINE"]
        if given:
            raise typer.BadParameter(f"options belong after {context.invoked_subcommand}, not before it ({given[0]})")
        return
    from flows.output import Output
    from storage.home import store_root

    layers = _layers(preset, split, rows, config, assignments)
    output = Output(as_json)
    output.say(f"thinkrec reflections, {split} rows, preset {preset}, store {store_root()}")
    summary = _in_prefect(output, lambda flows, fields: flows.reflections(**fields), preset, layers, split, rows)
    if output.console is not None:
        from flows.terminal_reflections import print_reflections

        print_reflections(output.console, summary)
    output.result(summary)


@app.command("export")
def export_command(
    file: NewFile,
    model: Annotated[str | None, typer.Option(help="Answers of this teacher alone.")] = None,
    as_json: Json = False,
) -> None:
    """Write every answer of the journal to one Parquet file, for somebody without a key."""
    from flows.output import Output
    from storage.home import store_root
    from storage.journal_table import export_journals

    output = Output(as_json)
    done = export_journals(store_root(), file, model)
    for name, count in done.models.items():
        output.say(f"{count:>8,} answers of {name}")
    if done.skipped:
        output.say(f"{done.skipped:>8,} left out: the journal does not hold their requests")
    output.say(f"they are in {file}; it holds titles and labels, no user ids and no key")
    output.result({"path": str(file), "answers": done.answers, "models": done.models, "skipped": done.skipped})


@app.command("import")
def import_command(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A file that export wrote.")], as_json: Json = False
) -> None:
    """Add the answers in FILE to the journal; answers that are there already stay."""
    from flows.output import Output
    from storage.home import store_root
    from storage.journal_table import import_journal

    output = Output(as_json)
    done = import_journal(store_root(), file)
    output.say(f"{done.added:,} answers added, {done.known:,} were here already")
    if done.differing:
        output.say(
            f"warning: {len(done.differing):,} answers differ from those here under the same key, which stay"
            f" (the first: {done.differing[0][:12]})"
        )
    output.result({"added": done.added, "known": done.known, "differing": len(done.differing)})


@app.command("batch-write")
def batch_write(
    file: NewFile,
    split: SplitName = Split.train,
    rows: Rows = None,
    most: Annotated[int, typer.Option("--max-requests", min=1, help="Requests in one file.")] = 50_000,
    preset: PresetName = "quickstart",
    config: ConfigFile = None,
    assignments: Assignments = None,
    as_json: Json = False,
) -> None:
    """Write the next round of all open dialogues as an OpenAI batch; no file if nothing is left to ask."""
    from flows.output import Output

    layers = _layers(preset, split, rows, config, assignments, batch=True)
    output = Output(as_json)

    def call(flows: Any, fields: dict[str, Any]) -> dict[str, Any]:
        return dict(flows.reflections_batch(target=str(file), most=most, **fields))

    done = _in_prefect(output, call, preset, layers, split, rows)
    output.say(f"dialogues: {done['accepted']:,} accepted, {done['rejected']:,} rejected")
    if done["requests"]:
        rounds = ", ".join(f"{count:,} of round {number}" for number, count in done["rounds"].items())
        output.say(f"{done['requests']:,} requests ({rounds}) are in {file}: titles and labels, no user ids")
        if done["left"]:
            output.say(f"{done['left']:,} more wait for the next file, when the results of this one are read")
    else:
        output.say("nothing is left to ask; no file was written")
    output.result(done)


@app.command("batch-read")
def batch_read(
    requests: Annotated[Path, typer.Argument(metavar="REQUESTS", help="The file that batch-write wrote.")],
    results: Annotated[list[Path], typer.Argument(metavar="RESULTS...", help="Output and error files of the batch.")],
    as_json: Json = False,
) -> None:
    """Put the results of a batch into the journal."""
    from flows.output import Output
    from storage.home import store_root
    from tasks.teacher.batch import read_batch

    output = Output(as_json)
    done = read_batch(store_root(), requests, results)
    output.say(
        f"{done.added:,} answers added, {done.known:,} were here already, {done.unanswered:,} requests unanswered"
    )
    for reason, count in done.refused.most_common():
        output.say(f"refused, asked again by the next file: {count:,} x {reason}")
    for count, what in (
        (done.differing, "results differ from the answers here, which stay"),
        (done.unknown, "results belong to other requests"),
        (done.damaged, "lines are no results; was the file cut?"),
    ):
        if count:
            output.say(f"warning: {count:,} {what}")
    output.result({**vars(done), "refused": dict(done.refused)})


def _layers(
    preset: str,
    split: Split,
    rows: int | None,
    config: Path | None,
    assignments: list[str] | None,
    batch: bool = False,
) -> list[Any]:
    """The layers of fields, checked, so that a mistake is told before any server starts."""
    from flows.config import resolve, user_layers
    from flows.config_layers import mapping_layer
    from flows.preflight import check_batch, check_reflections

    layers = user_layers(config, assignments or [])
    if rows is not None and split is Split.train:
        layers.append(mapping_layer(f"--rows {rows}", {"wrong_predictions.rows": rows}))
    resolved = resolve(preset, layers)
    if split is Split.train:
        check_reflections(resolved)
    if batch:
        check_batch(resolved)
    return layers


def _in_prefect(
    output: Any, call: Any, preset: str, layers: list[Any], split: Split, rows: int | None
) -> Mapping[str, Any]:
    from flows.config_layers import merged
    from flows.prefect_api import PrefectAPI
    from storage.home import store_root

    root = store_root()
    with PrefectAPI(root) as api:
        import flows.reflections as found
        from flows.logs import route_logs
        from flows.views import showing

        route_logs(root, output.view)
        api.wait()
        with showing(output.view):
            fields = {"preset": preset, "overrides": merged(layers), "split": split.value, "rows": rows or 200}
            return dict(call(found, fields))
