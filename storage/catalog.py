"""The catalog: one DuckDB file that says what is in the store, written anew at the end of each run.

    duckdb .thinkrec/catalog.duckdb "select stage, rows, seconds from artifacts order by built"

| table | one row per | columns |
|---|---|---|
| artifacts | artifact | stage, key, digest, built, seconds, peak_rss_mb, bytes, rows and settings (JSON), mlflow_run |
| parents | input of an artifact | stage, key, input, parent_stage, parent_key, parent_digest |
| runs | finished run | run, preset, finished, seconds, rows, users, all_cached, mlflow_run |
| stages | stage of a run | run, stage, status, seconds, key, digest |
| metrics | figure of a rung | run, rung, metric, value |

Manifests and run summaries are the truth; the catalog is made from them alone and may be deleted. It is written beside its
place and renamed into it, so a reader never sees half of it and never keeps a run from writing the next one.
"""

from __future__ import annotations

import json
import logging
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from storage.home import runs_folder
from storage.store import MANIFEST
from thinkrec_core.errors import one_line

logger = logging.getLogger(__name__)

CATALOG = "catalog.duckdb"
SCHEMA = """
create table artifacts (stage varchar, key varchar, digest varchar, built timestamp, seconds double, peak_rss_mb bigint,
    bytes bigint, rows json, settings json, mlflow_run varchar, primary key (stage, key));
create table parents (stage varchar, key varchar, input varchar, parent_stage varchar, parent_key varchar,
    parent_digest varchar);
create table runs (run varchar primary key, preset varchar, finished timestamp, seconds double, rows bigint, users bigint,
    all_cached boolean, mlflow_run varchar);
create table stages (run varchar, stage varchar, status varchar, seconds double, key varchar, digest varchar);
create table metrics (run varchar, rung varchar, metric varchar, value double);
"""
Rows = dict[str, list[tuple[Any, ...]]]


def write_catalog(root: Path) -> None:
    """Write the catalog of the store at `root`; what keeps it from being written is a warning, never an error."""
    import duckdb
    import pyarrow as pa

    target = root / CATALOG
    partial = root / f"{CATALOG}.{os.getpid()}.partial"
    try:
        partial.unlink(missing_ok=True)
        with duckdb.connect(str(partial)) as database:
            database.execute(SCHEMA)
            for table, rows in _rows(root).items():
                if rows:
                    columns = zip(*rows, strict=True)
                    found = pa.table({str(place): pa.array(values) for place, values in enumerate(columns)})
                    # All rows as one: a store of a year of nightly runs has a hundred thousand figures.
                    database.register("found", found)
                    database.execute(f"insert into {table} select * from found")
                    database.unregister("found")
        os.replace(partial, target)
    except (OSError, duckdb.Error, pa.ArrowException) as error:
        logger.warning("catalog %s was not written (%s); the artifacts are whole", target, one_line(str(error), 200))
        partial.unlink(missing_ok=True)


def manifests(root: Path) -> list[tuple[Path, dict[str, Any]]]:
    """(folder, manifest) of each published artifact by stage and key; damaged manifests are left out."""
    found = []
    for path in sorted((root / "artifacts").glob(f"*/*/{MANIFEST}")):
        values = read_json(path)
        if values and {"stage", "key", "digest"} <= values.keys():
            found.append((path.parent, values))
    return found


def summaries(root: Path) -> list[tuple[Path, dict[str, Any]]]:
    """(file, summary) of each finished run, oldest first."""
    paths = sorted(runs_folder(root).glob("*.json"), key=lambda path: path.stat().st_mtime)
    return [(path, values) for path in paths if (values := read_json(path)) and "stages" in values]


def read_json(path: Path) -> dict[str, Any]:
    """The object in `path`; an empty one if it cannot be read."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return values if isinstance(values, dict) else {}


def size(folder: Path) -> int:
    """Bytes of all files below `folder`."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _rows(root: Path) -> Rows:
    rows: Rows = {name: [] for name in ("artifacts", "parents", "runs", "stages", "metrics")}
    for folder, values in manifests(root):
        name = values["stage"], values["key"]
        rows["artifacts"].append(
            (
                *name,
                values["digest"],
                _moment(folder / MANIFEST),
                values.get("seconds"),
                values.get("peak_rss_mb"),
                size(folder),
                json.dumps(values.get("rows")),
                json.dumps(values.get("settings", {})),
                values.get("mlflow_run", ""),
            )
        )
        for given, parent in values.get("parents", {}).items():
            rows["parents"].append((*name, given, parent["stage"], parent["key"], parent["digest"]))
    for path, values in summaries(root):
        run, keys = path.stem, values.get("artifacts", {})
        facts = [values.get(key) for key in ("seconds", "rows", "users", "all_cached", "mlflow_run")]
        rows["runs"].append((run, values.get("preset"), _moment(path), *facts))
        for stage, result in values["stages"].items():
            found = keys.get(stage, {})
            rows["stages"].append(
                (run, stage, result["status"], result.get("seconds"), found.get("key"), found.get("digest"))
            )
        for rung, figures in values.get("rungs", {}).items():
            rows["metrics"] += [
                (run, rung, metric, float(value))
                for metric, value in figures.items()
                if isinstance(value, (int, float)) and not isinstance(value, bool)
            ]
    return rows


def _moment(path: Path) -> datetime:
    return datetime.fromtimestamp(path.stat().st_mtime, UTC).replace(tzinfo=None)
