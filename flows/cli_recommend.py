"""`thinkrec recommend`, `thinkrec score` and `thinkrec explain`: a bundle used from the command line."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.cli_bundle import BundleName
from flows.options import Json
from thinkrec_core.errors import DataError

if TYPE_CHECKING:
    from tasks.recommender import Reader, Recommender

User = Annotated[str | None, typer.Option("--user", "-u", help="Raw id of a user of the data.")]
Liked = Annotated[str | None, typer.Option("--liked", help='Titles that somebody new likes: "Heat; Fargo".')]
TopK = Annotated[int, typer.Option("--top-k", "-k", min=1, help="Length of the list.")]
Candidates = Annotated[int, typer.Option(min=1, help="Items that the encoder chooses for the LLM to rank.")]
Explain = Annotated[bool, typer.Option("--explain", help="Say why, in the model's words.")]
Item = Annotated[str, typer.Option("--item", "-i", help="Raw id of an item.")]
File = Annotated[Path, typer.Argument(help="Parquet or CSV with user_id and item_id.")]
OutFile = Annotated[Path, typer.Option("--out", "-o", help="Parquet file to write.")]


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    app.command("recommend")(recommend_command)
    app.command("explain")(explain_command)
    app.command("score")(score_command)


def recommend_command(
    user: User = None,
    liked: Liked = None,
    bundle: BundleName = None,
    top_k: TopK = 10,
    candidates: Candidates = 200,
    explain: Explain = False,
    as_json: Json = False,
) -> None:
    """Rank unseen items for a user, or for somebody who likes some titles."""
    from flows.output import Output

    output = Output(as_json)
    recommender = loaded(bundle, output)
    reader = _reader(recommender, user, liked)
    found = recommender.recommend(reader, top_k, candidates)
    if explain:
        for row in found:
            target = recommender.item(row["item_id"])
            row["explanation"] = recommender.explain(reader, target, row["score"])
            row["ungrounded"] = recommender.ungrounded(reader, target, row["explanation"])
    route = recommender.route(reader)
    if output.console is not None:
        _print_list(output.console, recommender, reader, found, route)
    output.result({"bundle": recommender.bundle.run, "user": user, **route, "recommendations": found})


def explain_command(
    item: Item, user: User = None, liked: Liked = None, bundle: BundleName = None, as_json: Json = False
) -> None:
    """Say whether a user will like an item, and why."""
    import numpy as np

    from flows.output import Output

    output = Output(as_json)
    recommender = loaded(bundle, output)
    reader, target = _reader(recommender, user, liked), recommender.item(item)
    scored = recommender.score(reader, np.array([target]))
    score = float(scored.final[0])
    text = recommender.explain(reader, target, score)
    found = {
        "item_id": item,
        "title": recommender.texts.titles[target],
        "score": score,
        "encoder_score": float(scored.encoder[0]),
        "strongest": recommender.strongest(reader, target),
        **recommender.route(reader),
        "explanation": text,
        "ungrounded": recommender.ungrounded(reader, target, text),
    }
    if output.console is not None:
        from rich.text import Text

        output.console.print(
            Text(f"{found['title']}: score {score:+.3f}, encoder {found['encoder_score']:+.3f}", "bold")
        )
        output.console.print(Text(f"  {text}\n  nearest in the history: {', '.join(found['strongest']) or 'nothing'}"))
        _print_ungrounded(output.console, found)
    output.result(found)


def score_command(file: File, out: OutFile, bundle: BundleName = None, as_json: Json = False) -> None:
    """Score rows of user_id and item_id.

    Rows with the columns history_item_idx and history_label, as samples have them, are scored with that history; others with
    the user's newest.
    """
    from flows.output import Output
    from tasks.score_file import score_file

    output = Output(as_json)
    recommender = loaded(bundle, output)
    rows = score_file(recommender, file, out)
    output.say(f"{rows:,} scores are in {out}")
    output.result({"bundle": recommender.bundle.run, "rows": rows, "out": str(out)})


def loaded(bundle: str | None, output: Any) -> Recommender:
    """The recommender of the bundle that was named, in this process."""
    from flows.cli_bundle import find_bundle

    found = find_bundle(bundle)
    output.say(f"bundle {found.run} ({found.path})")
    from tasks.recommender import Recommender  # loads torch

    return Recommender(found)


def _reader(recommender: Recommender, user: str | None, liked: str | None) -> Reader:
    if (user is None) == (liked is None):
        raise typer.BadParameter("name either --user ID or --liked TITLES")
    if user is not None:
        try:
            return recommender.user(user)
        except DataError as error:
            raise DataError(error.found, error.expected, "use --liked TITLES for somebody new") from None
    titles = [title for title in (liked or "").split(";") if title.strip()]
    if not titles:
        raise typer.BadParameter("--liked names no title")
    return recommender.stranger(titles)


def _print_list(
    console: Any, recommender: Recommender, reader: Reader, found: list[dict[str, Any]], route: dict[str, Any]
) -> None:
    from rich.table import Table
    from rich.text import Text

    newest = [recommender.texts.titles[item] for item in reader.items[-5:]]
    console.print(
        Text(f"for {reader.name}; route {route['route']}; newest in the history: {', '.join(newest) or 'nothing'}\n")
    )
    table = Table(box=None, pad_edge=False)
    for heading in ("Rank", "Title", "Score", "Encoder", "Its rank"):
        table.add_column(heading, justify="left" if heading == "Title" else "right")
    for row in found:
        cells = (f"{row['score']:+.3f}", f"{row['encoder_score']:+.3f}", str(row["encoder_rank"]))
        table.add_row(str(row["rank"]), Text(row["title"]), *cells)
    console.print(table)
    for row in found:
        if "explanation" in row:
            console.print(Text(f"\n{row['title']}: ", "bold").append(row["explanation"], "not bold"))
            _print_ungrounded(console, row)


def _print_ungrounded(console: Any, row: dict[str, Any]) -> None:
    from rich.text import Text

    if row["ungrounded"]:
        console.print(Text(f"  not in the history: {', '.join(row['ungrounded'])}", "yellow"))
