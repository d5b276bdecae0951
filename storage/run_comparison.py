"""Two finished runs read for a comparison: their rows side by side, and the settings in which their stages differ."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from storage.home import runs_folder
from thinkrec_core.errors import DataError, one_line

ROW = ["user_id", "item_id", "timestamp"]
"""What makes a row of predictions the same row in two runs."""
_FIT = re.compile(r"_seed\d+$")


@dataclass(frozen=True)
class PairedRows:
    """R rows that both runs scored."""

    users: npt.NDArray[np.int64]
    """(R,) 0..U-1."""
    labels: npt.NDArray[np.int64]
    """(R,) 0 or 1."""
    first: dict[str, list[npt.NDArray[np.float64]]]
    """Rung to the (R,) scores of its fits."""
    second: dict[str, list[npt.NDArray[np.float64]]]
    only_first: int
    """Rows that only the first run scored; they are left out."""
    only_second: int


def read_summary(root: Path, run: str) -> dict[str, Any]:
    """The summary of `run`: the name of a run of the store at `root`, or a path of its JSON file.

    Raises:
        DataError: there is no such run, or it never finished.
    """
    path = Path(run) if run.endswith(".json") else runs_folder(root) / f"{run}.json"
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(found, dict) and {"rungs", "predictions", "run"} <= found.keys():
            return found
    except FileNotFoundError:
        names = sorted(each.stem for each in runs_folder(root).glob("*.json") if each.stat().st_size)
        known = f"one of {', '.join(names[-5:])}" if names else "a finished run; there is none yet"
        raise DataError(f"no run {run} in {root}", known, "see `thinkrec artifacts ls`") from None
    except (OSError, ValueError):
        pass
    raise DataError(f"{path} is no summary of a finished run", "JSON with rungs and predictions", "rerun it")


def read_pair(first: Mapping[str, Any], second: Mapping[str, Any], common: bool) -> PairedRows:
    """The rows of two summaries, in the order of the first run's predictions.

    Args:
        common: leave out rows that only one run scored, instead of refusing.

    Raises:
        DataError: predictions are missing, rows differ, or a row has two labels.
    """
    one, other = _predictions(first), _predictions(second)
    one = one.append_column("place_first", pa.array(np.arange(one.num_rows)))
    other = other.append_column("place_second", pa.array(np.arange(other.num_rows)))
    places = one.select([*ROW, "place_first"]).join(other.select([*ROW, "place_second"]), ROW, join_type="inner")
    places = places.sort_by("place_first")
    missing = (one.num_rows - places.num_rows, other.num_rows - places.num_rows)
    if any(missing) and not common:
        raise DataError(
            f"{first['run']} scored {one.num_rows} rows and {second['run']} {other.num_rows}; {places.num_rows} are the same",
            "the same rows",
            "rerun one with the data of the other, or compare the common rows with --common",
        )
    if not places.num_rows:
        raise DataError(f"{first['run']} and {second['run']} have no row in common", "runs on the same data")
    one = one.take(places.column("place_first"))
    other = other.take(places.column("place_second"))
    labels = one.column("label").to_numpy().astype(np.int64)
    different = int((labels != other.column("label").to_numpy()).sum())
    if different:
        raise DataError(
            f"{different} rows have one label in {first['run']} and another in {second['run']}",
            "equal labels",
            "use the same data.positive_threshold",
        )
    users = np.unique(one.column("user_id").to_pylist(), return_inverse=True)[1].astype(np.int64)
    return PairedRows(users, labels, _fits(one), _fits(other), *missing)


def changed_settings(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Stages that are not the same artifact in both runs: stage, what of its identity differs, and the settings that do.

    Each has stage, changed (of settings, inputs, code, libraries; "only in ..." where one run lacks the stage) and
    settings {dotted name: [first, second]}.
    """
    found = []
    stages = dict.fromkeys([*first.get("artifacts", {}), *second.get("artifacts", {})])
    for stage in stages:
        one, other = (summary.get("artifacts", {}).get(stage) for summary in (first, second))
        if one is None or other is None:
            lonely = (first if other is None else second)["run"]
            found.append({"stage": stage, "changed": [f"only in {lonely}"], "settings": {}})
        elif one["digest"] != other["digest"]:
            left, right = (_manifest(summary, stage) for summary in (first, second))
            parts = [part for part in ("settings", "inputs", "code", "libraries") if left.get(part) != right.get(part)]
            flat = [_flat(side.get("settings", {})) for side in (left, right)]
            names = [name for name in {**flat[0], **flat[1]} if flat[0].get(name) != flat[1].get(name)]
            settings = {name: [flat[0].get(name), flat[1].get(name)] for name in names}
            found.append({"stage": stage, "changed": parts, "settings": settings})
    return found


def _predictions(summary: Mapping[str, Any]) -> pa.Table:
    path = Path(summary["predictions"])
    try:
        found = pq.read_table(path)
        found.select([*ROW, "label"])
        return found
    except (OSError, KeyError, pa.ArrowException) as error:
        told = one_line(str(error), 150)
        raise DataError(f"predictions of {summary['run']} cannot be read ({told})", str(path), "rerun it") from None


def _fits(table: pa.Table) -> dict[str, list[npt.NDArray[np.float64]]]:
    """The fits of each rung: the columns score_<rung>_seed0, ... where there are such, else score_<rung>."""
    names = [name for name in table.column_names if name.startswith("score_")]
    found: dict[str, list[npt.NDArray[np.float64]]] = {}
    for name in names:
        if not _FIT.search(name):
            fits = [fit for fit in names if _FIT.sub("", fit) == name and fit != name] or [name]
            found[name.removeprefix("score_")] = [np.asarray(table.column(fit).to_numpy(), np.float64) for fit in fits]
    return found


def _manifest(summary: Mapping[str, Any], stage: str) -> dict[str, Any]:
    """The manifest beside the artifact; empty where it was collected since."""
    ref = summary["artifacts"][stage]
    root = Path(summary["predictions"]).parents[2]
    try:
        found = json.loads((root / ref.get("stage", stage) / ref["key"] / "manifest.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(value, dict):
        return {prefix: value}
    flat: dict[str, Any] = {}
    for name, part in value.items():
        flat |= _flat(part, f"{prefix}.{name}" if prefix else name)
    return flat
