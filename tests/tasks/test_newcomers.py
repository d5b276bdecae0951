"""Encoder and clusters of a run, extended by users that came later: what was there stays, what is new is added."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from safetensors.torch import load_file as load_tensors

from storage.encoder_data import read_examples
from storage.rec_data import load_encoder_tables, load_routes, load_samples, load_signals
from storage.schemas import CLUSTERS, ENCODER_SCORES, INTERACTIONS, ITEMS, SAMPLES
from storage.store import ArtifactRef, ArtifactStore
from storage.tables import read_table, write_table
from storage.tracking import NullTracker
from tasks.cluster_users import cluster_users
from tasks.extend_clusters import extend_clusters
from tasks.extend_encoder import LINEAR, extend_encoder
from tasks.stage import RunContext
from tasks.view import View
from thinkrec_core.config.encoder import EncoderConfig
from thinkrec_core.config.experts import RouterConfig
from thinkrec_core.config.root import ThinkRecConfig
from thinkrec_core.encoders.fit import score_examples
from thinkrec_core.encoders.registry import restore_encoder
from thinkrec_core.errors import DataError
from thinkrec_core.recllm.records import Samples
from thinkrec_core.recllm.signals import Signals

OLD, NEW, ITEM_COUNT, PER_USER = 20, 6, 15, 8
"""Users 1..20 of the run in two groups; users 21..26 came later and like what nobody liked before."""

FULL = "vectors_and_scalars"


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
    config = EncoderConfig(kind=kind, embedding_size=3)  # type: ignore[arg-type]
    (folder / "encoder.json").write_text(json.dumps({"config": config.model_dump(mode="json")}))
    if kind not in LINEAR:
        return
    # Nodes without edges: LightGCN's vectors are then its rows over the number of terms, and MF's are its rows.
    terms = 1 + config.layers if kind == "lightgcn" else 1
    weights = {name: tables[name] for name in ("user_bias", "item_bias")} | {"mu": np.array([-1.0], np.float32)}
    weights |= {f"{side}_table": terms * tables[f"{side}_vectors"] for side in ("user", "item")}
    if kind == "lightgcn":
        weights["edges_2E"] = np.zeros((2, 0), np.int32)
    save_file(weights, folder / "weights.safetensors")
    made = rows(OLD, np.random.default_rng(1))
    users, items = made["user"], made["item"]
    logit = -1.0 + (tables["user_vectors"][users] * tables["item_vectors"][items]).sum(axis=1)
    for split in ("train", "valid", "test"):
        columns = {"row": np.arange(len(users), dtype=np.int32), "logit": logit.astype(np.float32)}
        write_table(folder / f"scores_{split}.parquet", columns, ENCODER_SCORES)


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

    def samples(self, data: ArtifactRef, encoder: Path) -> Samples:
        return load_samples(self.store.path(data), encoder, "train")

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


@pytest.mark.parametrize("kind", LINEAR)
def test_the_extended_weights_are_an_encoder_that_scores_as_the_artifact_says(made: Made, kind: str) -> None:
    made.encoder = made.publish("encoder", f"{kind}_again", lambda folder: write_encoder(folder, kind))
    folder, _ = made.extended()
    config = EncoderConfig.model_validate(json.loads((folder / "encoder.json").read_text())["config"])
    encoder = restore_encoder(config, load_tensors(folder / "weights.safetensors"))
    told = read_table(folder / "scores_test.parquet", ENCODER_SCORES).column("logit").to_numpy()
    samples = read_examples(made.store.path(made.new) / "samples_test.parquet")
    np.testing.assert_allclose(score_examples(encoder, samples), told, atol=1e-5)
    vectors = load_file(folder / "vectors.safetensors")
    for name, values in encoder.tables().items():
        np.testing.assert_allclose(values, vectors[name], atol=1e-6, err_msg=name)


def test_what_soft_tokens_are_made_from_stays_for_everybody_who_was_known(made: Made) -> None:
    old = load_signals(made.store.path(made.encoder), made.samples(made.old, made.store.path(made.encoder)), FULL)
    folder, extended = made.extended()
    rows = made.samples(made.new, folder)
    new = load_signals(folder, rows, FULL)
    known = rows.user_idx <= OLD
    np.testing.assert_array_equal(new.user_vectors[: OLD + 1], old.user_vectors)
    np.testing.assert_array_equal(new.item_vectors, old.item_vectors)
    before = old.scalars(made.samples(made.old, made.store.path(made.encoder)))
    np.testing.assert_allclose(new.scalars(rows)[known], before, atol=1e-5)  # logits are summed anew
    assert (new.statistics["user_count"][OLD + 1 :] == PER_USER).all()
    fitted_anew = Signals(load_encoder_tables(folder), rows, FULL)  # what would move everybody
    assert np.abs(fitted_anew.user_vectors[1 : OLD + 1] - old.user_vectors[1:]).max() > 1e-3
    # The next addition finds the same statistics.
    made.encoder, made.old = extended, made.new
    twice = load_signals(made.extended()[0], rows, FULL)
    np.testing.assert_array_equal(twice.user_vectors[: OLD + 1], old.user_vectors)


def test_the_clusters_keep_routes_and_gates_of_the_others(made: Made) -> None:
    _, encoder = made.extended()
    folder = made.store.path(made.ref(extend_clusters.fn(made.context, made.clusters, encoder, made.new)))
    before = read_table(made.store.path(made.clusters) / "clusters.parquet", CLUSTERS).to_pydict()
    after = read_table(folder / "clusters.parquet", CLUSTERS).to_pydict()
    assert after["cluster"] == [*before["cluster"], *[2] * NEW]
    for router in (RouterConfig(), RouterConfig(mode="soft", temperature=0.5)):
        old, now = load_routes(made.store.path(made.clusters), router), load_routes(folder, router)
        assert now.route[: OLD + 1].tolist() == old.route.tolist()
        assert now.gates[: OLD + 1].tolist() == [[*gates, 0.0] for gates in old.gates.tolist()]
        assert (now.gates[OLD + 1 :, 3] > (0.9 if router.mode == "paper" else 0.5)).all()
    summary = json.loads((folder / "clusters.json").read_text())
    assert (summary["count"], summary["added"], summary["sizes"][2]) == (3, 2, NEW)
    assert (summary["trained"], summary["train_rows"][2]) == ([True, True, True], NEW * PER_USER)
    tensors = load_file(folder / "centroids.safetensors")
    assert (tensors["centroids"].shape, tensors["cosines"].shape) == ((3, 3), (OLD + NEW + 1, 3))


def test_a_newcomer_whose_vector_is_not_finite_is_one_line(made: Made) -> None:
    folder, _ = made.extended()
    tables = load_file(folder / "vectors.safetensors")
    tables["user_vectors"][OLD + 2] = np.nan
    broken = made.publish("encoder", "broken", lambda to: save_file(tables, to / "vectors.safetensors"))
    with pytest.raises(DataError, match="is not finite") as caught:
        extend_clusters.fn(made.context, made.clusters, broken, made.new)
    assert "\n" not in str(caught.value)


def test_mistakes_are_one_line(made: Made) -> None:
    with pytest.raises(DataError, match="no newcomer has train rows"):
        extend_clusters.fn(made.context, made.clusters, made.encoder, made.old)
    other = made.publish("data", "other", lambda folder: write_data(folder, OLD + NEW, prefix="v"))
    with pytest.raises(DataError, match="numbered otherwise"):
        made.extended(other)
    made.encoder = made.publish("encoder", "din", lambda folder: write_encoder(folder, "din"))
    with pytest.raises(DataError, match="users cannot be folded into the encoder din"):
        made.extended()
