"""Append a source to a data set of snapshots: read and checked once, kept as Parquet under the digest of its content.

A snapshot appears by one rename, after its files are on the disk; a process that dies before leaves a folder whose name
begins with a dot, which the next append removes. Appends to one data set take turns.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from storage.crash_points import reached
from storage.durable import sync_path
from storage.file_digests import file_digest
from storage.prepare_checks import check_future
from storage.readers.raw import ITEM, TIMESTAMP, RawData
from storage.readers.registry import configured_source
from storage.readers.snapshots import FACTS, FORMAT, Snapshot, detect, newest_items, snapshots_of
from thinkrec_core.config.data import DataConfig
from thinkrec_core.errors import DataError, one_line


@dataclass(frozen=True)
class Appended:
    """What an append did."""

    snapshot: str
    """Name of the snapshot that holds the content."""
    path: Path
    added: bool
    """False where an earlier snapshot holds the same content."""
    rows: int
    rejected: int
    items: int


def append_snapshot(
    config: DataConfig, dataset: Path, say: Callable[[str], None] = lambda text: None, now: float | None = None
) -> Appended:
    """Add the content of `config.source` to the folder `dataset`, which is made if there is none.

    Of `config`, source, format, columns, not_after and max_rejected count. Rows may name items of earlier snapshots.

    Args:
        say: told each step in words.
        now: seconds since 1970, for rows from the future; None asks the clock.

    Raises:
        DataError: the source or `dataset` cannot be used, or has other columns than the first snapshot.
    """
    if config.format == FORMAT or (config.format == "auto" and detect(Path(config.source))):
        raise DataError(f"{config.source} is a data set of snapshots itself", "a source to append", "name its source")
    with _only_appender(dataset) as folder:
        earlier = snapshots_of(dataset)
        known = newest_items(earlier).column(ITEM).combine_chunks() if earlier else None
        say("reading")
        raw = configured_source(config, known)
        _check_columns(raw, earlier)
        building = folder / f".building-{os.getpid()}"
        building.mkdir()
        facts = _write(raw, config, building, now)
        for snapshot in earlier:
            if snapshot.facts["content"] == facts["content"]:
                shutil.rmtree(building)
                return _appended(snapshot, added=False)
        say("writing")
        for path in [*building.iterdir(), building]:
            sync_path(path)
        reached("append.synced")
        target = folder / f"{len(earlier) + 1:06d}-{facts['content'][:16]}"
        os.rename(building, target)
        reached("append.renamed")
        sync_path(folder)
        return _appended(Snapshot(target, facts), added=True)


def _appended(snapshot: Snapshot, added: bool) -> Appended:
    facts = snapshot.facts
    return Appended(snapshot.name, snapshot.folder, added, facts["rows"], facts["rejected"], facts["items"])


@contextlib.contextmanager
def _only_appender(dataset: Path) -> Iterator[Path]:
    """The folder of snapshots, swept, while no other process appends to `dataset`."""
    folder = dataset / FORMAT
    try:
        if not folder.is_dir() and dataset.exists() and (not dataset.is_dir() or any(dataset.iterdir())):
            raise DataError(
                f"--to {dataset} is no data set of snapshots", "a new or empty folder, or one made by append"
            )
        folder.mkdir(parents=True, exist_ok=True)
        with (dataset / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            for left in folder.glob(".building-*"):
                shutil.rmtree(left)
            try:
                yield folder
            finally:
                for left in folder.glob(".building-*"):
                    shutil.rmtree(left, ignore_errors=True)
    except OSError as error:
        told = error.strerror or one_line(str(error), 200)
        raise DataError(f"--to {dataset} cannot be written ({told})", "a folder that can be written") from None


def _check_columns(raw: RawData, earlier: list[Snapshot]) -> None:
    if earlier and sorted(raw.columns) != sorted(earlier[0].facts["columns"]):
        raise DataError(
            f"{raw.name} gives {', '.join(raw.columns)}",
            f"{', '.join(earlier[0].facts['columns'])}, as the first snapshot has",
            "append it to a data set of its own",
        )


def _write(raw: RawData, config: DataConfig, folder: Path, now: float | None) -> dict[str, Any]:
    """The four files of a snapshot; returns the content of snapshot.json."""
    content, rows, newest = Content(), 0, None
    writer: pq.ParquetWriter | None = None
    try:
        for chunk in raw.chunks():
            chunk = chunk.select(sorted(chunk.column_names))
            writer = writer or pq.ParquetWriter(folder / "interactions.parquet", chunk.schema, compression="zstd")
            writer.write_table(chunk)
            content.add("interactions", chunk)
            rows += chunk.num_rows
            newest = pc.max(pa.array([newest, pc.max(chunk.column(TIMESTAMP)).as_py()], pa.int64())).as_py()
    finally:
        if writer is not None:
            writer.close()
    raw.rejected.check(rows + raw.rejected.rows, config.max_rejected)
    if not rows:
        raise DataError(f"{raw.name} has no rows that can be used", "one or more")
    check_future(raw.name, newest, config, now)
    reached("append.rows")
    pq.write_table(raw.items, folder / "items.parquet", compression="zstd")
    content.add("items", raw.items)
    raw.rejected.write(folder / "rejected.parquet")
    facts = {
        "source": raw.name,
        "columns": sorted(raw.columns),
        "rows": rows,
        "rejected": raw.rejected.rows,
        "items": raw.items.num_rows,
        "newest": newest,
        "content": content.hexdigest(),
        "files": {path.name: file_digest(path) for path in sorted(folder.iterdir())},
    }
    (folder / FACTS).write_text(json.dumps(facts, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    for path in folder.iterdir():
        path.chmod(0o444)
    return facts


class Content:
    """One digest of tables by their values, however they are cut into chunks and written to files."""

    def __init__(self) -> None:
        self._parts: dict[str, Any] = {}

    def add(self, table: str, chunk: pa.Table) -> None:
        """More rows of `table`, without nulls."""
        for name in chunk.column_names:
            for piece in chunk.column(name).chunks:
                for part, values in _buffers(piece):
                    self._parts.setdefault(f"{table}.{name}.{part}", hashlib.sha256()).update(values)

    def hexdigest(self) -> str:
        """sha256 over all columns."""
        lines = "".join(f"{name} {self._parts[name].hexdigest()}\n" for name in sorted(self._parts))
        return hashlib.sha256(lines.encode()).hexdigest()


def _buffers(piece: pa.Array) -> Iterator[tuple[str, Any]]:
    """The values of `piece` as bytes, without what its place in a larger array leaves around them."""
    if not pa.types.is_string(piece.type):
        yield "values", piece.to_numpy().tobytes()
        return
    if not len(piece):  # it may have no buffers
        return
    _, offsets, text = piece.buffers()
    ends = np.frombuffer(offsets, np.int32)[piece.offset : piece.offset + len(piece) + 1]
    yield "lengths", np.diff(ends).tobytes()
    if text is not None:
        yield "bytes", memoryview(text)[ends[0] : ends[-1]]
