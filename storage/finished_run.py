"""What a finished run of the pipeline was made of: its configuration's preset and the artifacts behind its evaluation."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from storage.catalog import summaries
from storage.rec_data import trained_clusters
from storage.schemas import SAMPLES
from storage.store import ArtifactRef, ArtifactStore
from storage.tables import read_table
from thinkrec_core.errors import DataError, StoreError


@dataclass(frozen=True)
class FinishedRun:
    """A run of the pipeline in the store."""

    name: str
    summary: dict[str, Any]
    data: ArtifactRef
    encoder: ArtifactRef
    general: ArtifactRef
    clusters: ArtifactRef
    experts: dict[int, ArtifactRef]
    """The trained experts by the number of their cluster."""


def finished_run(store: ArtifactStore, name: str | None = None) -> FinishedRun:
    """The run called `name`, or the newest one that scored its experts.

    Raises:
        StoreError: there is no such run, or one of its artifacts is gone.
    """
    known = {path.stem: values for path, values in summaries(store.root) if "evaluation" in values.get("artifacts", {})}
    if name is None:
        name = next(reversed(known), None)
    if name is None or name not in known:
        found = f"no run {name}" if name else f"no finished run in {store.root}"
        raise StoreError(found, ", ".join(list(known)[-5:]), "thinkrec run makes one")
    evaluation = ArtifactRef(**{"stage": "evaluation", **known[name]["artifacts"]["evaluation"]})
    parents = {part: ArtifactRef(**ref) for part, ref in store.manifest(evaluation)["parents"].items()}
    experts = [parents[part] for part in sorted(parents, key=_number) if part.startswith("expert_")]
    numbers = trained_clusters(store.path(parents["clusters"]))
    return FinishedRun(
        name=name,
        summary=known[name],
        **{part: parents[part] for part in ("data", "encoder", "general", "clusters")},
        experts=dict(zip(numbers, experts, strict=True)),
    )


def user_index(data: Path, user_id: str) -> int:
    """user_idx of the raw `user_id`.

    Raises:
        DataError: no sample is of this user.
    """
    for split in ("train", "valid", "test"):
        table = read_table(data / f"samples_{split}.parquet", SAMPLES, ["user_id", "user_idx"])
        places = [place for place, value in enumerate(table.column("user_id").to_pylist()) if value == user_id]
        if places:
            return int(table.column("user_idx")[places[0]].as_py())
    raise DataError(f"user {user_id} is in no split of the run's data", "a raw user id of the source")


def _number(part: str) -> int:
    tail = part.rpartition("_")[2]
    return int(tail) if tail.isdecimal() else -1
