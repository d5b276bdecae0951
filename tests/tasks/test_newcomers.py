"""Encoder and clusters of a run, extended by users that came later: what was there stays, what is new is added."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from storage.schemas import CLUSTERS, ENCODER_SCORES, INTERACTIONS, ITEMS, SAMPLES
from storage.store import ArtifactRef, ArtifactStore
from storage.tables import read_table, write_table
from storage.tracking import NullTracker
from tasks.cluster_users import cluster_users
from tasks.extend_clusters import extend_clusters
from tasks.extend_encoder import extend_encoder
from tasks.stage import RunContext
from tasks.view import View
from thinkrec_core.config.root import ThinkRecConfig
from thinkrec_core.errors import DataError

OLD, NEW, ITEM_COUNT, PER_USER = 20, 6, 15, 8
"""Users 1..20 of the run in two groups; users 21..26 came later and like what nobody liked before."""


def rows(users: int, generator: np.random.Generator) -> dict[str, np.ndarray]:
    user = np.repeat(np.arange(1, users + 1), PER_USER)
    item = generator.integers(1, ITEM_COUNT + 1, len(user))
    taste = np.where(user > OLD, 2, user % 2)
    return {"user": user, "item": item, "label": (item % 3 == taste).astype(int)}


def write_data(folder: Path, users: int, prefix: str = "u") -> None:
    made = rows(users, np.random.default_rng(1))
    count = len(made["user"])
    shared: dict[str, Any] = {
        "user_id": [f"{prefix}{user}" for user in made["user"]],
        "item_id": [f"i{item}" for item in made["item"]],
        "user_idx": made["user"],
        "item_idx": made["item"],
        "label": made["label"],
        "timestamp": np.arange(count),
        "split": ["train"] * count,
    }
    write_table(folder / "interactions.parquet", shared, INTERACTIONS)
    extra = {"not_cold": [True] * count, "history_item_idx": [[]] * count, "history_label": [[]] * count}
    for split in ("train", "valid", "test"):
        write_table(folder / f"samples_{split}.parquet", {**shared, **extra, "split": [split] * count}, SAMPLES)
    numbers = range(1, ITEM_COUNT + 1)
    items = {"item_idx": numbers, "item_id": [f"i{n}" for n in numbers], "title": ["t"] * ITEM_COUNT}
    write_table(folder / "items.parquet", {**items, "keywords": [""] * ITEM_COUNT}, ITEMS)


def write_encoder(folder: Path, kind: str = "mf") -> None:
    draw = np.random.default_rng(2)
    item = np.eye(3)[np.arange(ITEM_COUNT + 1) % 3] * 2 + draw.normal(size=(ITEM_COUNT + 1, 3), scale=0.1)
    user = np.eye(3)[np.arange(OLD + 1) % 2] + draw.normal(size=(OLD + 1, 3), scale=0.3)
    tables = {
        "user_vectors": user,
        "item_vectors": item,
        "user_bias": np.zeros(OLD + 1),
        "item_bias": np.zeros(ITEM_COUNT + 1),
    }
    tables = {name: values.astype(np.float32) for name, values in tables.items()}
    save_file({**tables, "mu": np.array([-1.0], np.float32)}, folder / "vectors.safetensors")
    (folder / "encoder.json").write_text(json.dumps({"config": {"kind": kind}}))


class Made:
    """A run of 20 users and the data that grew to 26."""

    def __init__(self, root: Path) -> None:
        self.store = ArtifactStore(root)
        config = ThinkRecConfig.model_validate({"experts": {"min_rows": 4}})
        self.context = RunContext(config, self.store, NullTracker(), View())
        self.old = self.publish("data", "old", lambda folder: write_data(folder, OLD))
        self.new = self.publish("data", "new", lambda folder: write_data(folder, OLD + NEW))
        self.encoder = self.publish("encoder", "k", write_encoder)
        self.clusters = self.ref(cluster_users.fn(self.context, self.old, self.encoder))

    def publish(self, stage: str, key: str, write: Any) -> ArtifactRef:
        with self.store.locked(stage, key):
            draft = self.store.draft(stage, key)
            write(draft.path)
            return self.store.publish(draft, stage, key, {})

    @staticmethod
    def ref(result: Any) -> ArtifactRef:
        return result if isinstance(result, ArtifactRef) else result.data

    def extended(self, data: ArtifactRef | None = None) -> tuple[Path, ArtifactRef]:
        ref = self.ref(extend_encoder.fn(self.context, self.encoder, self.old, data or self.new))
        return self.store.path(ref), ref


@pytest.fixture
def made(tmp_path: Path) -> Made:
    return Made(tmp_path)


def test_the_encoder_keeps_what_it_knew_and_learns_the_newcomers(made: Made) -> None:
    folder, _ = made.extended()
    before, after = (load_file(path / "vectors.safetensors") for path in (made.store.path(made.encoder), folder))
    for name in ("user_vectors", "user_bias", "item_vectors", "item_bias", "mu"):
        assert np.array_equal(after[name][: len(before[name])], before[name])
    assert after["user_vectors"].shape == (OLD + NEW + 1, 3)
    assert (after["user_vectors"][OLD + 1 :].argmax(axis=1) == 2).all()  # their taste
    for split in ("train", "test"):
        scores = read_table(folder / f"scores_{split}.parquet", ENCODER_SCORES)
        assert scores.num_rows == (OLD + NEW) * PER_USER
        assert np.isfinite(scores.column("logit").to_numpy()).all()


def test_the_clusters_keep_routes_and_gates_of_the_others(made: Made) -> None:
    _, encoder = made.extended()
    folder = made.store.path(made.ref(extend_clusters.fn(made.context, made.clusters, encoder, made.new)))
    before = read_table(made.store.path(made.clusters) / "clusters.parquet", CLUSTERS).to_pydict()
    after = read_table(folder / "clusters.parquet", CLUSTERS).to_pydict()
    assert after["cluster"] == [*before["cluster"], *[2] * NEW]
    assert after["route"][:OLD] == before["route"]
    assert after["gates"][:OLD] == [[*gates, 0.0] for gates in before["gates"]]
    assert all(gates[3] > 0.9 for gates in after["gates"][OLD:])
    summary = json.loads((folder / "clusters.json").read_text())
    assert (summary["count"], summary["added"], summary["sizes"][2]) == (3, 2, NEW)
    assert (summary["trained"], summary["train_rows"][2]) == ([True, True, True], NEW * PER_USER)
    tensors = load_file(folder / "centroids.safetensors")
    assert (tensors["centroids"].shape, tensors["weights"].shape) == ((3, 3), (OLD + NEW + 1, 3))


def test_mistakes_are_one_line(made: Made) -> None:
    with pytest.raises(DataError, match="no newcomer has train rows"):
        extend_clusters.fn(made.context, made.clusters, made.encoder, made.old)
    other = made.publish("data", "other", lambda folder: write_data(folder, OLD + NEW, prefix="v"))
    with pytest.raises(DataError, match="numbered otherwise"):
        made.extended(other)
    made.encoder = made.publish("encoder", "din", lambda folder: write_encoder(folder, "din"))
    with pytest.raises(DataError, match="users cannot be folded into the encoder din"):
        made.extended()
