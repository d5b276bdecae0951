"""The section of a report about its data: tables, facts, warnings, and the lengths of histories as a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from thinkrec_core.report import data_words
from thinkrec_core.report.tables import Cell, Row, text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TEMPLATE = "data.html.j2"
SPLIT_TITLES = ("Rows", "Liked", "Warm", "Users", "Both classes", "Items", "History", "Empty", "Days (UTC)")


@dataclass(frozen=True)
class DataSection:
    """What the template places."""

    warnings: Sequence[str]
    splits: Sequence[Row]
    """Under `SPLIT_TITLES`."""
    fates: Sequence[Row]
    facts: Sequence[tuple[str, str]]


def data_section(statistics: Mapping[str, Any]) -> DataSection | None:
    """The section about `statistics`; None where there are none."""
    if not statistics:
        return None
    splits = [
        Row(
            split.capitalize(),
            [
                Cell(text(of["rows"])),
                Cell(f"{of['positives'] / of['rows']:.1%}"),
                Cell(f"{of['warm_share']:.1%}"),
                Cell(text(of["users"])),
                Cell(text(of["both_classes"])),
                Cell(text(of["items"])),
                Cell(data_words.quartiles(of)),
                Cell(text(of["empty_histories"])),
                Cell(data_words.days(of)),
            ],
        )
        for split, of in statistics["splits"].items()
    ]
    read = statistics["rows_read"]
    fates = [Row(name, [Cell(text(rows)), Cell(f"{rows / read:.2%}")]) for name, rows in data_words.fates(statistics)]
    return DataSection(
        data_words.warnings(statistics),
        splits,
        [*fates, Row("read", [Cell(text(read)), Cell(f"{1:.2%}")])],
        _facts(statistics),
    )


def history_figure(statistics: Mapping[str, Any]) -> str:
    """How many rows of each split have histories of which length, as shares; "" without statistics."""
    splits = statistics.get("splits", {})
    if not splits:
        return ""
    # matplotlib: a run that finds its report in the store need not load it
    from thinkrec_core.report.svg import PAPER, draw, quiet, series_color

    def paint(picture: Figure) -> None:
        axes = picture.add_subplot()
        ranges = list(next(iter(splits.values()))["history_lengths"])
        width = 0.8 / len(splits)
        for index, (split, of) in enumerate(splits.items()):
            shares = [rows / of["rows"] for rows in of["history_lengths"].values()]
            places = [place + (index - (len(splits) - 1) / 2) * width for place in range(len(ranges))]
            axes.bar(places, shares, width=width, color=series_color(index), edgecolor=PAPER, label=split)
        axes.set_xticks(range(len(ranges)), [name.replace("-", "–") for name in ranges])
        axes.set_xlabel("items in the history of a row")
        axes.set_ylabel("share of the rows")
        axes.legend(frameon=False)
        quiet(axes)

    return draw("history", "Lengths of histories by split", 220, paint)


def _facts(statistics: Mapping[str, Any]) -> list[tuple[str, str]]:
    source = f"{statistics['source']}, labels from its {statistics['label_source']} column"
    users, items = statistics["users_with_rows"], statistics["items_with_rows"]
    facts = [
        ("Source", source),
        ("Users and items", f"{users:,} and {items:,}; density {statistics['density']:.4%}"),
        ("Users with one class in all their rows", text(statistics["one_class_users"])),
        ("Rows that share their second with another of the user", text(statistics["burst_rows"])),
        ("Most rows of a user in one second", text(statistics["longest_burst"])),
        (
            "Items with genres or keywords of the source",
            f"{statistics['items_with_keywords']:,} of {statistics['items']:,}",
        ),
        ("Items that nobody met", text(statistics["items_without_interactions"])),
        ("Rows of the item file left out", text(statistics["items_left_out"])),
    ]
    if condensed := statistics.get("condensed"):
        told = f"{condensed['condensed']:,} of {condensed['asked']:,} asked for, by {condensed['model']}"
        facts.append(("Keywords condensed from descriptions", told))
    if (users, items) != (statistics["users"], statistics["items"]):
        facts.append(("Ids of users and items", f"{statistics['users']:,} and {statistics['items']:,}"))
    return facts
