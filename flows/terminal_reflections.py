"""What `thinkrec reflections` tells in words: acceptance, rounds, reasons, tokens, cost, and where everything lies."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.text import Text

from thinkrec_core.report.words import count, money, percent

BAR = 28
"""Characters of the longest bar."""


def print_reflections(console: Console, summary: Mapping[str, Any]) -> None:
    """Print `summary`, as `flows.reflections.reflections` gives it."""
    console.print()
    if summary["all_cached"]:
        console.print("nothing to do: all stages cached", style="bold")
    for line in lines(summary):
        console.print(Text(line), soft_wrap=True)


def lines(summary: Mapping[str, Any]) -> list[str]:
    """The summary as lines of text."""
    accepted, rejected, right = summary["accepted"], summary["rejected"], summary["right_verdicts"]
    rows = accepted + rejected
    prompt, completion = summary["prompt_tokens"], summary["completion_tokens"]
    about = count(rows, f"{summary['split']} row")
    told = [
        f"{summary['model']}, prompts version {summary['prompt_version']}: {about}",
        f"accepted     {accepted:,} ({percent(accepted, rows)})",
        f"rejected     {rejected:,}" + "".join(f"; {n:,} {reason}" for reason, n in summary["reasons"].items()),
        f"leaks        {summary['leaked']:,} of {right:,} right verdicts speak of the hint",
        f"tokens       {prompt + completion:,} ({prompt:,} in prompts, {completion:,} in answers)",
        f"cost         {'unknown, teacher.prices has no such model' if summary['cost'] is None else money(summary['cost'])}",
    ]
    most = max(summary["rounds"].values(), default=0)
    for number, n in summary["rounds"].items():
        good = summary["accepted_rounds"].get(number, 0)
        bar = "█" * round(BAR * good / most) + "░" * round(BAR * (n - good) / most)
        told.append(f"{count(int(number), 'round'):<12} {n:>5,}  {bar}")
    if summary["note"]:
        told.append(summary["note"])
    told += ["", f"table        {summary['table']}", f"with costs   {summary['table_with_costs']}"]
    told.append(f"report       {summary['report']}")
    return told
