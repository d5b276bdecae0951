"""The data report in words, out of statistics.json: what a person reads in the terminal, and what deserves a warning."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from thinkrec_core.report.words import count

FEW_UAUC_USERS = 200
"""The paper's ML-1M split has 224; their UAUC has a standard error of .017."""
MANY_BURSTS = 0.5
FEW_WARM = 0.1


def warnings(statistics: Mapping[str, Any]) -> list[str]:
    """Sentences about what makes figures on these data weak, or unlike the published ones."""
    found = list(_differences(statistics))
    test, rows = statistics["splits"]["test"], kept_rows(statistics)
    averaged, left = test["both_classes"], test["one_class"]
    if averaged < FEW_UAUC_USERS or left > averaged:
        found.append(
            f"{left:,} of {count(test['users'], 'test user')} have test rows of one class only; UAUC averages the other"
            f" {averaged:,}"
        )
    if statistics["rejected"]:
        found.append(f"{count(statistics['rejected'], 'row')} could not be used; rejected.parquet has place and reason")
    if statistics["burst_rows"] > MANY_BURSTS * rows:
        found.append(
            f"{statistics['burst_rows'] / rows:.0%} of the rows share their second with another row of the user, up to"
            f" {statistics['longest_burst']:,} at once; none of them is in the others' histories"
        )
    if test["warm_share"] < FEW_WARM:
        found.append(f"only {test['warm_share']:.1%} of the test rows have user and item in train")
    return found


def _differences(statistics: Mapping[str, Any]) -> Iterator[str]:
    """One sentence per size that differs from the published one."""
    made = {split: values["rows"] for split, values in statistics["splits"].items()}
    made |= {"users": statistics["users_with_rows"], "items": statistics["items_with_rows"]}
    for name, expected in statistics.get("published", {}).items():
        if made[name] != expected:
            what = (
                f"{name} has {made[name]:,} rows"
                if name in statistics["splits"]
                else f"there are {made[name]:,} {name}"
            )
            yield f"{what}; published are {expected:,} ({made[name] - expected:+,})"


def kept_rows(statistics: Mapping[str, Any]) -> int:
    """Rows of the three splits."""
    return sum(int(values["rows"]) for values in statistics["splits"].values())


def fates(statistics: Mapping[str, Any]) -> Iterator[tuple[str, int]]:
    """(what became of them, rows): together the rows that were read."""
    for split, values in statistics["splits"].items():
        yield split, values["rows"]
    for reason, rows in statistics["filtered"].items():
        if rows:
            yield f"filtered: {reason.replace('_', ' ')}", rows
    told = 0
    for expected, rows in statistics["rejected_reasons"].items():
        told += rows
        yield f"rejected: expected {expected}", rows
    if told < statistics["rejected"]:
        yield "rejected: reasons no longer known", statistics["rejected"] - told


def days(values: Mapping[str, Any]) -> str:
    """First and last day (UTC) of a split."""
    first, last = (
        datetime.fromtimestamp(values[name], UTC).date().isoformat() for name in ("first_timestamp", "last_timestamp")
    )
    return first if first == last else f"{first} to {last}"


def quartiles(values: Mapping[str, Any]) -> str:
    """Quartiles of the history lengths of a split: "2/5/10"."""
    return "/".join(map(str, values["history_quartiles"]))


def report_lines(statistics: Mapping[str, Any]) -> Iterator[str]:
    """The data report for a terminal: counts, sparsity, label rates, histories, warm rows, and where all rows went."""
    rows, users, items = kept_rows(statistics), statistics["users_with_rows"], statistics["items_with_rows"]
    yield f"{rows:,} rows of {users:,} users and {items:,} items; density {statistics['density']:.4%}"
    yield "Split       Rows  Liked  Warm   Users   Items  History (quartiles)  Empty"
    for split, of in statistics["splits"].items():
        yield (
            f"{split:<6}{of['rows']:>10,}  {of['positives'] / of['rows']:.3f}  {of['warm_share']:.2f}{of['users']:>8,}"
            f"{of['items']:>8,}  {quartiles(of):>19}{of['empty_histories']:>7,}"
        )
    both, one = (statistics["splits"]["test"][name] for name in ("both_classes", "one_class"))
    yield (
        f"{both:,} test users have both classes and count for UAUC, {one:,} have one;"
        f" {statistics['one_class_users']:,} users have one class in all their rows"
    )
    yield f"{statistics['burst_rows']:,} rows share their second with another row of the user"
    if statistics["items_left_out"]:
        yield f"{statistics['items_left_out']:,} rows of the item file have no id or title, or repeat an item"
    gone = ", ".join(f"{name} {rows:,}" for name, rows in statistics["filtered"].items() if rows) or "none"
    yield f"{statistics['rows_read']:,} rows read; rejected {statistics['rejected']:,}; filtered: {gone}"
    for warning in warnings(statistics):
        yield f"warning: {warning}"
