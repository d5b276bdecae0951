"""A source prepared into a folder of its own, outside of any run; and what a person reads about it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from storage.new_folder import new_folder
from storage.prepare import prepare
from storage.readers.registry import configured_source
from thinkrec_core.config.data import DataConfig


def prepare_folder(
    config: DataConfig, seed: int, out: Path, say: Callable[[str], None] = lambda text: None
) -> dict[str, Any]:
    """Prepare `config.source` into the new folder `out`, which appears whole or not at all.

    Returns:
        the statistics of `storage.prepare.prepare`, source_digest, and seconds; the file statistics.json holds all but
        the seconds, so that equal inputs give equal folders.

    Raises:
        DataError: the source cannot be used, or `out` is there already or cannot be written.
    """
    start = time.monotonic()
    with new_folder(out) as building:
        raw = configured_source(config)
        statistics = {**prepare(raw, config, seed, building, say), "source_digest": raw.digest}
        raw.rejected.write(building / "rejected.parquet")
        (building / "statistics.json").write_text(json.dumps(statistics, indent=1, sort_keys=True) + "\n")
    return {**statistics, "seconds": round(time.monotonic() - start, 3)}


def report_lines(statistics: Mapping[str, Any]) -> Iterator[str]:
    """The data report in words: counts, sparsity, label rates, histories, warm rows, and where the other rows went."""
    splits = statistics["splits"]
    rows = sum(values["rows"] for values in splits.values())
    users, items = statistics["users"], statistics["items"]
    yield f"{rows:,} rows of {users:,} users and {items:,} items; density {rows / (users * items):.4%}"
    yield "Split       Rows  Liked  Warm   Users   Items  History (quartiles)  Empty"
    for split, of in splits.items():
        quartiles = "/".join(map(str, of["history_quartiles"]))
        yield (
            f"{split:<6}{of['rows']:>10,}  {of['positives'] / of['rows']:.3f}  {of['warm_share']:.2f}{of['users']:>8,}"
            f"{of['items']:>8,}  {quartiles:>19}{of['empty_histories']:>7,}"
        )
    yield f"{statistics['uauc_users_test']:,} test users have both classes and count for UAUC"
    yield f"{statistics['burst_rows']:,} rows share their second with another row of the user"
    gone = ", ".join(f"{name} {count:,}" for name, count in statistics["filtered"].items() if count) or "none"
    yield f"{statistics['rows_read']:,} rows read; rejected {statistics['rejected']:,}; filtered: {gone}"
