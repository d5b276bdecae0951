"""`thinkrec compare RUN RUN`: two finished runs on the same rows, with paired differences."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from flows.options import Json

SEED = 7
First = Annotated[str, typer.Argument(metavar="RUN", help="Name of a run, or the path of its JSON summary.")]
Second = Annotated[str, typer.Argument(metavar="RUN", help="The run that is compared with it.")]
Pair = Annotated[
    list[str] | None,
    typer.Option("--pair", help="FIRST_RUNG:SECOND_RUNG, beside the rungs that both have; repeatable."),
]
Common = Annotated[bool, typer.Option("--common", help="Leave out rows that only one of them scored.")]
Resamples = Annotated[int, typer.Option("--resamples", min=10, help="Bootstrap draws of whole users.")]


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("compare")(compare_command)


def compare_command(
    first: First,
    second: Second,
    pair: Pair = None,
    common: Common = False,
    resamples: Resamples = 1000,
    as_json: Json = False,
) -> None:
    """Compare two runs: figures, paired differences, and the settings in which they differ."""
    from flows.output import Output
    from storage.home import store_root
    from storage.run_comparison import changed_settings, read_pair, read_summary
    from thinkrec_core.evaluation.comparison import compare_scores
    from thinkrec_core.seeds import generator

    root = store_root()
    one, other = read_summary(root, first), read_summary(root, second)
    rows = read_pair(one, other, common)
    wanted = {name: (name, name) for name in rows.first if name in rows.second}
    for text in pair or []:
        left, _, right = text.partition(":")
        if left not in rows.first or right not in rows.second:
            known = f"FIRST:SECOND of {', '.join(rows.first)} and {', '.join(rows.second)}"
            raise typer.BadParameter(f"--pair {text} names no rung; expected {known}")
        wanted[text] = (left, right)
    pairs = {name: (rows.first[left], rows.second[right]) for name, (left, right) in wanted.items()}
    found = {
        "first": one["run"],
        "second": other["run"],
        "rows": len(rows.labels),
        "users": int(rows.users.max()) + 1,
        "only_first": rows.only_first,
        "only_second": rows.only_second,
        "resamples": resamples,
        "rungs": compare_scores(rows.users, rows.labels, pairs, resamples, generator(SEED, "compare")),
        "changed": changed_settings(one, other),
    }
    output = Output(as_json)
    if output.console is not None:
        _print(output.console, found)
    output.result(found)


def _print(console: Any, found: dict[str, Any]) -> None:
    from rich.table import Table
    from rich.text import Text

    from thinkrec_core.report.words import figure, interval, rung_name, signed

    console.print(f"first   {found['first']}\nsecond  {found['second']}")
    left_out = found["only_first"] + found["only_second"]
    console.print(
        f"{found['rows']:,} rows of {found['users']:,} users that both scored"
        + (f"; {left_out:,} rows of one run left out" if left_out else "")
        + f"; 95% intervals of differences by user, {found['resamples']:,} resamples\n"
    )
    table = Table(box=None, pad_edge=False)
    for heading in ("Rung", "Figure", "First", "Second", "Difference", "95%", "p"):
        table.add_column(heading, justify="left" if heading in ("Rung", "Figure") else "right", no_wrap=True)
    for name, figures in found["rungs"].items():
        shown = " : ".join(rung_name(part) for part in name.split(":"))
        for title, values in figures.items():
            bounds = interval(values["ci"], with_sign=True)
            cells = (figure(values["first"], 4), figure(values["second"], 4), signed(values["difference"], 4), bounds)
            table.add_row(Text(shown), title.upper(), *cells, figure(values["p"]))
            shown = ""
    console.print(table)
    if not found["rungs"]:
        console.print("They have no rung in common; name two with --pair.")
    for stage in found["changed"]:
        console.print(
            Text(f"\n{stage['stage']}: {', '.join(stage['changed']) or 'the same settings, inputs and code'}")
        )
        for name, (before, after) in stage["settings"].items():
            console.print(Text(f"  {name}: {before} -> {after}"))
