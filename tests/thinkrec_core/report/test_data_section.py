from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.data_statistics import statistics
from thinkrec_core.report.data_section import data_section, history_figure
from thinkrec_core.report.data_words import fates, report_lines, warnings


def test_where_the_rows_went_adds_up_to_what_was_read() -> None:
    found = statistics()
    assert dict(fates(found)) == {
        "train": 1000, "valid": 100, "test": 100, "filtered: duplicates": 10, "rejected: expected a number": 2,
    }  # fmt: skip
    assert sum(rows for _, rows in fates(found)) == found["rows_read"]
    forgotten = statistics(rejected=5, rows_read=1215)  # more than rejected.parquet can hold
    assert ("rejected: reasons no longer known", 3) in list(fates(forgotten))
    section = data_section(found)
    assert section is not None
    assert [cell.value for cell in section.fates[-1].cells] == ["1,212", "100.00%"]
    assert [cell.value for cell in section.splits[2].cells] == [
        "100", "50.0%", "75.0%", "300", "240", "90", "2/5/10", "7", "2000-12-31 to 2001-01-20",
    ]  # fmt: skip


def in_test(**values: Any) -> dict[str, Any]:
    found = statistics(rejected=0, rejected_reasons={}, rows_read=1210)
    found["splits"]["test"] |= values
    return found


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda: statistics(), "2 rows could not be used; rejected.parquet"),
        (lambda: in_test(both_classes=150, one_class=150), "150 of 300 test users have test rows of one class only"),
        (lambda: in_test(both_classes=1000, one_class=1001), "UAUC averages the other 1,000"),
        (lambda: in_test(warm_share=0.05), "only 5.0% of the test rows have user and item in train"),
        (lambda: in_test() | {"burst_rows": 900, "longest_burst": 40}, "75% of the rows share their second"),
        (lambda: in_test() | {"published": {"train": 999}}, "train has 1,000 rows; published are 999 (+1)"),
        (lambda: in_test() | {"published": {"items": 3255}}, "there are 120 items; published are 3,255 (-3,135)"),
    ],
)
def test_each_weakness_has_its_warning(change: Callable[[], dict[str, Any]], words: str) -> None:
    found = warnings(change())
    assert len(found) == 1, found
    assert words in found[0]
    assert f"warning: {found[0]}" in list(report_lines(change()))


def test_good_data_warn_of_nothing() -> None:
    published = {"train": 1000, "valid": 100, "test": 100, "users": 400, "items": 120}
    assert warnings(in_test() | {"published": published}) == []
    assert data_section({}) is None
    assert history_figure({}) == ""


def test_condensed_keywords_name_their_teacher() -> None:
    section = data_section(statistics(condensed={"asked": 1200, "condensed": 1100, "model": "m"}))
    assert section is not None
    assert ("Keywords condensed from descriptions", "1,100 of 1,200 asked for, by m") in section.facts


def test_ids_without_rows_are_told() -> None:
    section = data_section(statistics(users=500))
    assert section is not None
    assert ("Ids of users and items", "500 and 120") in section.facts
