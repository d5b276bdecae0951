"""Artifacts of the data and encoder stages as the arrays of thinkrec_core."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from safetensors.numpy import load_file

from storage.schemas import CLUSTERS, ENCODER_SCORES, ITEMS, SAMPLES
from storage.tables import ragged, read_table
from thinkrec_core.config.experts import RouterConfig
from thinkrec_core.config.llm import ProjectorInputs
from thinkrec_core.errors import StoreError
from thinkrec_core.experts.router import Routes, columns_of, route_users
from thinkrec_core.recllm.prompt import ItemTexts
from thinkrec_core.recllm.records import Samples
from thinkrec_core.recllm.signals import EncoderTables, Signals

Split = Literal["train", "valid", "test"]
SIGNALS = "signals.safetensors"
"""Statistics of the soft tokens' inputs beside an encoder, where they are not those of the data's train rows."""


def load_samples(data: Path, encoder: Path, split: Split) -> Samples:
    """The samples of `split` with the encoder's logits, and those of a prior where the artifact of stage `prior` stands for it.

    Raises:
        StoreError: the scores belong to other samples.
    """
    table = read_table(data / f"samples_{split}.parquet", SAMPLES)
    prior = encoder / f"prior_{split}.parquet"
    offsets, items = ragged(table.column("history_item_idx"))
    _, labels = ragged(table.column("history_label"))
    return Samples(
        user_idx=_ints(table, "user_idx"),
        item_idx=_ints(table, "item_idx"),
        label=_ints(table, "label"),
        history_offsets=offsets,
        history_items=items,
        history_labels=labels,
        encoder_logit=_logits(encoder / f"scores_{split}.parquet", table.num_rows),
        prior_logit=_logits(prior, table.num_rows) if prior.is_file() else None,
    )


def _logits(path: Path, count: int) -> npt.NDArray[np.float64]:
    scores = read_table(path, ENCODER_SCORES)
    rows = scores.column("row").to_numpy()
    if len(rows) != count or not np.array_equal(rows, np.arange(len(rows))):
        raise StoreError(f"{path.name} covers {len(rows)} rows", f"{count}", "run again")
    return scores.column("logit").to_numpy().astype(np.float64)


def load_item_texts(data: Path) -> ItemTexts:
    """Titles and keywords by item_idx, "" at the padding index 0."""
    table = read_table(data / "items.parquet", ITEMS)
    index = table.column("item_idx").to_numpy()
    titles, keywords = [""] * (int(index.max()) + 1), [""] * (int(index.max()) + 1)
    columns = zip(index, table.column("title").to_pylist(), table.column("keywords").to_pylist(), strict=True)
    for item, title, words in columns:
        titles[item], keywords[item] = title, words
    return ItemTexts(titles, keywords)


def load_encoder_tables(encoder: Path) -> EncoderTables:
    """Vectors and biases of the encoder artifact."""
    tensors = load_file(encoder / "vectors.safetensors")
    return EncoderTables(
        user_vectors=tensors["user_vectors"],
        item_vectors=tensors["item_vectors"],
        user_bias=tensors["user_bias"],
        item_bias=tensors["item_bias"],
    )


def load_signals(encoder: Path, train: Samples, inputs: ProjectorInputs) -> Signals:
    """Inputs of the soft tokens: with the statistics that lie beside the encoder, or with those of `train`.

    They lie beside an encoder that was extended: what it says of users that it knew must not change with rows of others.

    Raises:
        DataError: a vector or bias is not finite.
    """
    tables = load_encoder_tables(encoder)
    kept = encoder / SIGNALS
    return Signals.restored(tables, load_file(kept), inputs) if kept.is_file() else Signals(tables, train, inputs)


def load_routes(clusters: Path, router: RouterConfig) -> Routes:
    """The routes of all users under `router`, (U+1) rows by user_idx; the padding index has the general adapter.

    The one place where users are routed: it is as quick as reading, so no stage keeps routes. Gates have the precision of
    fp32, in which models apply them.
    """
    cluster = read_table(clusters / "clusters.parquet", CLUSTERS, ["cluster"]).column("cluster").to_numpy()
    cosines = load_file(clusters / "centroids.safetensors")["cosines"]
    trained = np.isin(np.arange(cosines.shape[1]), trained_clusters(clusters))
    routes = route_users(cosines, router, np.concatenate([[False], cluster >= 0]), trained)
    return replace(routes, gates=routes.gates.astype(np.float32).astype(np.float64))


def load_gates(clusters: Path, router: RouterConfig, experts: Sequence[int]) -> npt.NDArray[np.float64]:
    """(U+1, 1 + len(experts)) gate weights of `load_routes`: the general adapter first, then `experts`."""
    return load_routes(clusters, router).gates[:, columns_of(experts)]


def trained_clusters(clusters: Path) -> list[int]:
    """Numbers of the clusters with enough train rows for an expert of their own; the others keep the general adapter."""
    summary = json.loads((clusters / "clusters.json").read_text())
    return [index for index, trained in enumerate(summary["trained"]) if trained]


def users_of_cluster(clusters: Path, index: int) -> npt.NDArray[np.int64]:
    """user_idx of cluster `index`, ascending."""
    table = read_table(clusters / "clusters.parquet", CLUSTERS, ["user_idx", "cluster"])
    return np.sort(_ints(table, "user_idx")[table.column("cluster").to_numpy() == index])


def users_digest(clusters: Path, index: int) -> str:
    """sha256 of who the users of cluster `index` are: equal groups in different partitions have the same."""
    return hashlib.sha256(users_of_cluster(clusters, index).astype("<i8").tobytes()).hexdigest()


def _ints(table: pa.Table, name: str) -> np.ndarray:
    return table.column(name).to_numpy().astype(np.int64)
