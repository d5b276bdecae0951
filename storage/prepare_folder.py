"""A source prepared into the files of the data artifact, in a run or in a folder of its own."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from storage.new_folder import new_folder
from storage.prepare import prepare
from storage.readers.registry import configured_source
from thinkrec_core.config.data import DataConfig


def prepare_into(
    config: DataConfig, seed: int, folder: Path, say: Callable[[str], None] = lambda text: None
) -> dict[str, Any]:
    """Write all files of a preparation of `config.source` into the empty `folder`; returns what statistics.json holds:
    the statistics of `storage.prepare.prepare` and source_digest.

    Raises:
        DataError: the source cannot be used.
        AssetError: a pinned download is missing or damaged.
    """
    raw = configured_source(config)
    statistics = {**prepare(raw, config, seed, folder, say), "source_digest": raw.digest}
    raw.rejected.write(folder / "rejected.parquet")
    (folder / "statistics.json").write_text(json.dumps(statistics, indent=1, sort_keys=True) + "\n")
    return statistics


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
        statistics = prepare_into(config, seed, building, say)
    return {**statistics, "seconds": round(time.monotonic() - start, 3)}


def figures(statistics: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of `statistics` under flat names: rejected, filtered_rare, test_warm_share, test_label_rate, ..."""
    found: dict[str, float] = {name: value for name, value in statistics.items() if isinstance(value, int | float)}
    found["filtered"] = sum(statistics["filtered"].values())
    found |= {f"filtered_{reason}": rows for reason, rows in statistics["filtered"].items()}
    for split, values in statistics["splits"].items():
        found |= {f"{split}_{name}": value for name, value in values.items() if isinstance(value, int | float)}
        found[f"{split}_label_rate"] = values["positives"] / values["rows"]
        found[f"{split}_history_median"] = values["history_quartiles"][1]
    return found
