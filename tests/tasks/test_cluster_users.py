"""The clusters stage on a small encoder artifact: tables, summary, settings in the key."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from storage.rec_data import load_gates, load_routes
from storage.schemas import CLUSTERS, SAMPLES
from storage.store import ArtifactRef, ArtifactStore
from storage.tables import read_table, write_table
from storage.tracking import NullTracker
from tasks.cluster_users import cluster_users
from tasks.stage import RunContext
from tasks.view import View
from thinkrec_core.config.experts import RouterConfig
from thinkrec_core.config.root import ThinkRecConfig
from thinkrec_core.errors import DataError

USERS = 40
PAPER = RouterConfig()


def publish(store: ArtifactStore, stage: str, write: Any) -> ArtifactRef:
    with store.locked(stage, "k"):
        draft = store.draft(stage, "k")
        write(draft.path)
        return store.publish(draft, stage, "k", {})


def write_data(folder: Path) -> None:
    # Users 1..30 have two train rows each; 31..40 have none.
    user = np.repeat(np.arange(1, 31), 2)
    rows = len(user)
    columns = {
        "user_id": [str(u) for u in user],
        "item_id": ["1"] * rows,
        "user_idx": user,
        "item_idx": np.ones(rows, int),
        "label": np.ones(rows, int),
        "timestamp": np.arange(rows),
        "split": ["train"] * rows,
        "not_cold": [True] * rows,
        "history_item_idx": [[]] * rows,
        "history_label": [[]] * rows,
    }
    write_table(folder / "samples_train.parquet", columns, SAMPLES)


def write_encoder(folder: Path) -> None:
    # Users 1..20 around (5, 0, 0), the others around (0, 5, 0).
    rng = np.random.default_rng(1)
    vectors = rng.normal(size=(USERS + 1, 3), scale=0.3).astype(np.float32)
    vectors[1:21, 0] += 5
    vectors[21:, 1] += 5
    save_file({"user_vectors": vectors}, folder / "vectors.safetensors")


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(tmp_path)


def run(store: ArtifactStore, **experts: Any) -> tuple[Path, RunContext]:
    config = ThinkRecConfig.model_validate({"experts": experts})
    context = RunContext(config, store, NullTracker(), View())
    data, encoder = publish_once(store, "data", write_data), publish_once(store, "encoder", write_encoder)
    result = cluster_users.fn(context, data, encoder)
    ref = result if isinstance(result, ArtifactRef) else result.data
    return store.path(ref), context


def publish_once(store: ArtifactStore, stage: str, write: Any) -> ArtifactRef:
    return store.find(stage, "k") or publish(store, stage, write)


def test_every_user_has_a_route_and_gates(store: ArtifactStore) -> None:
    folder, _ = run(store)
    routes = load_routes(folder, PAPER)
    assert routes.route.tolist() == ["general"] + ["single"] * 30 + ["general"] * 10
    gates = [[1, 0, 0]] + [[0, 1, 0]] * 20 + [[0, 0, 1]] * 10 + [[1, 0, 0]] * 10
    assert routes.gates.tolist() == gates
    assert load_gates(folder, PAPER, [1]).tolist() == [[general, second] for general, _, second in gates]
    table = read_table(folder / "clusters.parquet", CLUSTERS).to_pydict()
    assert table["user_idx"] == list(range(1, USERS + 1))
    assert table["train_rows"] == [2] * 30 + [0] * 10
    assert table["cluster"] == [0] * 20 + [1] * 10 + [-1] * 10
    tensors = load_file(folder / "centroids.safetensors")
    assert (tensors["centroids"].shape, tensors["cosines"].shape) == ((2, 3), (USERS + 1, 2))


def test_fused_gates_have_the_precision_in_which_models_apply_them(store: ArtifactStore) -> None:
    folder, _ = run(store)
    soft = load_routes(folder, RouterConfig(mode="soft", temperature=1.0))
    assert set(soft.route[1:31]) == {"fusion"}
    assert np.array_equal(soft.gates, soft.gates.astype(np.float32))
    assert np.array_equal(soft.gates[1:31, 1:], soft.weights[1:31].astype(np.float32))
    assert not np.array_equal(soft.weights, soft.weights.astype(np.float32))


def test_summary_counts_users_and_rows(store: ArtifactStore) -> None:
    folder, _ = run(store)
    summary = json.loads((folder / "clusters.json").read_text())
    assert (summary["sizes"], summary["train_rows"], summary["trained"]) == ([20, 10], [40, 20], [True, True])
    assert (summary["users"], summary["users_without_train_rows"]) == (30, 10)
    assert summary["silhouette"] > 0.5
    assert len(summary["map"]["x"]) == len(summary["map"]["y"]) == len(summary["map"]["cluster"]) == 30


def test_a_cluster_with_few_rows_keeps_the_general_adapter(store: ArtifactStore) -> None:
    folder, _ = run(store, min_rows=21)
    summary = json.loads((folder / "clusters.json").read_text())
    assert summary["trained"] == [True, False]
    assert load_routes(folder, PAPER).route[1:].tolist() == ["single"] * 20 + ["general"] * 20


def test_one_cluster_routes_everybody_to_the_general_adapter(store: ArtifactStore) -> None:
    folder, _ = run(store, count=1)
    summary = json.loads((folder / "clusters.json").read_text())
    assert set(load_routes(folder, PAPER).route) == {"general"}
    assert summary["trained"] == [False]


def test_the_number_of_clusters_can_be_found_or_named(store: ArtifactStore) -> None:
    folder, context = run(store, choose="silhouette", clustering="minibatch", max_count=4)
    summary = json.loads((folder / "clusters.json").read_text())
    assert (summary["count"], summary["sizes"], list(summary["silhouettes"])) == (2, [20, 10], ["2", "3", "4"])
    named = cluster_users.fn(context, *(publish_once(store, s, write_data) for s in ("data", "encoder")), count=3)
    assert isinstance(named, ArtifactRef)
    assert json.loads((store.path(named) / "clusters.json").read_text())["count"] == 3


def test_the_key_holds_what_decides_clusters_and_nothing_else(store: ArtifactStore) -> None:
    _, first = run(store)
    _, again = run(store, last_layers=4)
    _, router = run(store, router={"temperature": 0.2, "mode": "soft"})
    _, other = run(store, space="raw")
    contexts = (first, again, router, other)
    assert [context.results["clusters"].status for context in contexts] == ["ran", "cached", "cached", "ran"]


def test_users_that_cannot_be_clustered_are_one_line_and_leave_no_artifact(store: ArtifactStore) -> None:
    with pytest.raises(DataError, match=r"30 users with train rows for experts\.count 31") as caught:
        run(store, count=31)
    assert "\n" not in str(caught.value)

    def write_broken(folder: Path) -> None:
        vectors = np.ones((USERS + 1, 3), np.float32)
        vectors[7] = np.nan
        save_file({"user_vectors": vectors}, folder / "vectors.safetensors")

    broken = ArtifactStore(store.root / "broken")
    context = RunContext(ThinkRecConfig(), broken, NullTracker(), View())
    data, encoder = publish(broken, "data", write_data), publish(broken, "encoder", write_broken)
    with pytest.raises(DataError, match="user 7 is not finite"):
        cluster_users.fn(context, data, encoder)
    for root in (store.root, broken.root):
        assert not list((root / "artifacts").glob("clusters/*"))
