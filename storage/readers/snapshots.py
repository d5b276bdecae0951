"""A data set that grows by snapshots: DATASET/snapshots/NNNNNN-DIGEST/, each checked when it was appended and never changed.

interactions.parquet, items.parquet, rejected.parquet   what `storage.snapshots` took out of a source
snapshot.json                                           counts, columns, content digest, and sha256 of the three files

Ids follow the snapshot in which they first occur, so they are the same whatever comes later. Where several snapshots
describe an item, the newest texts count.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from storage.assets import cache_folder
from storage.file_digests import joint_digest, remembered_digest
from storage.readers.raw import DESCRIPTION, ITEM, SNAPSHOT, RawData
from storage.readers.rejected import Rejected
from thinkrec_core.errors import DataError

FORMAT = "snapshots"
FACTS = "snapshot.json"
_NAME = re.compile(r"(\d{6})-[0-9a-f]{16}")


@dataclass(frozen=True)
class Snapshot:
    """One snapshot of a data set."""

    folder: Path
    facts: dict[str, Any]
    """snapshot.json."""

    @property
    def name(self) -> str:
        """Number and beginning of the content digest."""
        return self.folder.name


def detect(source: Path) -> bool:
    """Whether `source` is such a data set."""
    return (source / FORMAT).is_dir()


def snapshots_of(dataset: Path) -> list[Snapshot]:
    """The snapshots of `dataset` in their order; unfinished ones are none.

    Raises:
        DataError: the folder has another content than snapshots 1..N, or one of them cannot be read.
    """
    folder = dataset / FORMAT
    if not folder.is_dir():
        raise DataError(
            f"{dataset} is no data set of snapshots", f"a folder {FORMAT} in it", "see thinkrec data append"
        )
    found = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    for number, path in enumerate(found, 1):
        match = _NAME.fullmatch(path.name)
        if match is None or int(match[1]) != number:
            raise DataError(f"{folder} holds {path.name}", f"snapshot {number:06d} there", "restore the folder")
    return [Snapshot(path, _facts(path)) for path in found]


def digest(dataset: Path) -> str:
    """sha256 over names and files of all snapshots, each compared with what snapshot.json says.

    Raises:
        DataError: a file is missing or was changed.
    """
    total: dict[str, str] = {}
    for snapshot in snapshots_of(dataset):
        for name, expected in snapshot.facts["files"].items():
            path = snapshot.folder / name
            try:
                found = remembered_digest(path, cache_folder())
            except OSError as error:
                raise DataError(f"{path} cannot be read ({error.strerror})", "the file that was appended") from None
            if found != expected:
                raise DataError(f"{path} was changed after it was appended", f"sha256 {expected[:16]}...", "restore it")
            total[f"{snapshot.name}/{name}"] = found
    return joint_digest(total)


def read(dataset: Path) -> RawData:
    """All snapshots of `dataset`, one after the other.

    Raises:
        DataError: there is no snapshot, or one was changed.
    """
    found = snapshots_of(dataset)
    if not found:
        raise DataError(
            f"{dataset} holds no snapshot yet", "one or more", f"thinkrec data append SOURCE --to {dataset}"
        )
    rejected = Rejected()

    def chunks() -> Iterator[pa.Table]:
        for number, snapshot in enumerate(found, 1):
            _reject_again(snapshot, rejected)
            with pq.ParquetFile(snapshot.folder / "interactions.parquet") as rows:
                for batch in rows.iter_batches(200_000):
                    table = pa.Table.from_batches([batch])
                    yield table.append_column(SNAPSHOT, pa.array(np.full(table.num_rows, number)))

    names = (*found[0].facts["columns"], SNAPSHOT)
    name = dataset.resolve().name
    return RawData(chunks, newest_items(found), digest(dataset), name, rejected, names)


def newest_items(snapshots: list[Snapshot]) -> pa.Table:
    """The items of `snapshots`, each once, as the newest of them describes it."""
    tables = [pq.read_table(snapshot.folder / "items.parquet") for snapshot in reversed(snapshots)]
    everything = pa.concat_tables(tables, promote_options="default")
    if DESCRIPTION in everything.column_names:  # an older snapshot may have none
        texts = pc.fill_null(everything.column(DESCRIPTION), "")
        everything = everything.drop_columns([DESCRIPTION]).append_column(DESCRIPTION, texts)
    place = pa.array(np.arange(everything.num_rows))
    first = pa.table({ITEM: everything.column(ITEM), "place": place}).group_by(ITEM).aggregate([("place", "min")])
    return everything.take(first.column("place_min").combine_chunks().sort())


def _reject_again(snapshot: Snapshot, rejected: Rejected) -> None:
    """The rows that were rejected when `snapshot` was appended are rows read, too."""
    table = pq.read_table(snapshot.folder / "rejected.parquet")
    for row in table.to_pylist():
        rejected.add_again(f"{snapshot.name}/{row['file']}", row["row"], row["reason"])
    rejected.rows += snapshot.facts["rejected"] - table.num_rows


def _facts(folder: Path) -> dict[str, Any]:
    path = folder / FACTS
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
        if not {"columns", "content", "files", "rejected", "rows"} <= set(facts):
            raise ValueError("a field is missing")
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read ({error})", "what thinkrec data append wrote") from None
    return dict(facts)
