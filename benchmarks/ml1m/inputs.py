"""Data, encoder and clusters of a protocol, made by the pipeline's own stages and laid out as plain folders."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from benchmarks.ml1m.study import Protocol, input_configuration
from storage.store import ArtifactRef, ArtifactStore
from storage.tracking import NullTracker
from tasks.cluster_users import cluster_users
from tasks.prepare_data import prepare_data
from tasks.stage import RunContext
from tasks.train_encoder import train_encoder
from tasks.view import View

LEFT_OUT = ("interactions.parquet", "rejected.parquet", "weights.safetensors", "manifest.json")
"""What no training reads."""


def make_inputs(source: Path, protocol: Protocol, home: Path, target: Path, max_users: int | None = None) -> None:
    """Write target/{data,encoder,clusters} for `protocol`; stages that the store at `home` has are not computed again."""
    context = _context(source, protocol, home, max_users)
    data = _reference(prepare_data.fn(context))
    encoder = _reference(train_encoder.fn(context, data))
    clusters = _reference(cluster_users.fn(context, data, encoder))
    for name, ref in {"data": data, "encoder": encoder, "clusters": clusters}.items():
        shutil.rmtree(target / name, ignore_errors=True)
        shutil.copytree(context.store.path(ref), target / name, ignore=shutil.ignore_patterns(*LEFT_OUT))


def make_data(source: Path, protocol: Protocol, home: Path, max_users: int | None = None) -> Path:
    """The folder of the data artifact of `protocol` in the store at `home`."""
    context = _context(source, protocol, home, max_users)
    return context.store.path(_reference(prepare_data.fn(context)))


def _context(source: Path, protocol: Protocol, home: Path, max_users: int | None) -> RunContext:
    return RunContext(input_configuration(protocol, source, max_users), ArtifactStore(home), NullTracker(), View())


def _reference(outcome: Any) -> ArtifactRef:
    return outcome if isinstance(outcome, ArtifactRef) else outcome.data
