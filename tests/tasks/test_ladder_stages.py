"""The stages of the ladder on a small source: every rung, its files, its key, and figures that follow from predictions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from prefect.client.schemas.objects import State

from storage.store import ArtifactRef, ArtifactStore
from storage.tracking import NullTracker
from tasks.fit_rung import SEEDED, fit_rung
from tasks.measure_ladder import measure_ladder
from tasks.prepare_data import prepare_data
from tasks.stage import RunContext
from tasks.view import View
from thinkrec_core.config.encoder import KINDS
from thinkrec_core.config.ladder import ALL_LADDER_RUNGS
from thinkrec_core.config.root import ThinkRecConfig
from thinkrec_core.errors import ConfigError
from thinkrec_core.evaluation.auc import auc, uauc

FAST = {"embedding_size": 8, "learning_rate": 0.02, "batch_size": 128, "epochs": 4}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> ArtifactStore:
    return ArtifactStore(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("source")
    draw = np.random.default_rng(5)
    rows = ["user_id,item_id,label,timestamp"]
    for user in range(30):
        for time, item in enumerate(draw.permutation(30)):
            liked = draw.random() < (0.9 if user % 2 == item % 2 else 0.1)
            rows.append(f"u{user},i{item},{int(liked)},{1000 * user + time}")
    (folder / "interactions.csv").write_text("\n".join(rows) + "\n")
    items = [f'i{item},Title {item} (19{60 + item}),"{("Drama", "Comedy")[item % 2]}"' for item in range(30)]
    (folder / "items.csv").write_text("item_id,title,genres\n" + "\n".join(items) + "\n")
    return folder


def context_of(store: ArtifactStore, source: Path, history: str = "labelled", **ladder: Any) -> RunContext:
    kinds = {kind: {"kind": kind, **FAST} for kind in KINDS}
    kinds["own"] = {"kind": "thinkrec_core.encoders.mf:MatrixFactorisation", **FAST}
    stacker = {"folds": 2, "replicas": 2, "iterations": 20}
    values = {"seeds": 2, "bootstrap": 30, "stacker": stacker, **kinds, **ladder}
    data = {"source": str(source), "history": history}
    config = ThinkRecConfig.model_validate({"data": data, "ladder": values})
    return RunContext(config, store, NullTracker(), View())


def reference(result: ArtifactRef | State[ArtifactRef]) -> ArtifactRef:
    return result if isinstance(result, ArtifactRef) else result.data


def test_figures_are_those_of_the_predictions(store: ArtifactStore, source: Path) -> None:
    rungs = tuple(name for name in ALL_LADDER_RUNGS if not name.endswith("_published"))
    context = context_of(store, source, rungs=rungs)
    data = reference(prepare_data.fn(context))
    fitted = {name: reference(fit_rung.fn(context, data, name)) for name in rungs}
    folder = store.path(reference(measure_ladder.fn(context, data, fitted)))
    found = json.loads((folder / "ladder.json").read_text())
    table = pq.read_table(folder / "predictions.parquet")
    raw, labels = table["user_id"].to_pylist(), table["label"].to_numpy()
    users = np.unique(raw, return_inverse=True)[1]
    assert found["protocol"] == "labelled"
    assert found["rows"] == table.num_rows
    assert tuple(found["rungs"]) == rungs
    for name in rungs:
        fits = [f"score_{name}_seed{index}" for index in range(2)] if name in SEEDED else [f"score_{name}"]
        scores = [table[column].to_numpy() for column in fits]
        assert found["rungs"][name]["auc"] == pytest.approx(np.mean([auc(s, labels) for s in scores]))
        assert found["rungs"][name]["uauc"] == pytest.approx(np.mean([uauc(users, s, labels) for s in scores]))
        np.testing.assert_allclose(table[f"score_{name}"].to_numpy(), np.mean(scores, axis=0))
    assert found["rungs"]["stacker"]["auc"] > found["rungs"]["bias"]["auc"] + 0.1  # genre is all that counts here
    assert "ThinkRec (Llama-3-8B)" in (folder / "ladder.html").read_text()


def test_a_rung_is_fitted_anew_only_for_its_own_settings(store: ArtifactStore, source: Path) -> None:
    first = context_of(store, source)
    data = reference(prepare_data.fn(first))
    for name in ("bias", "stacker"):
        fit_rung.fn(first, data, name)
    other = context_of(store, source, stacker={"folds": 2, "replicas": 1, "iterations": 5})
    for name in ("bias", "stacker"):
        fit_rung.fn(other, data, name)
    assert other.results["rung_bias"].status == "cached"
    assert other.results["rung_stacker"].status == "ran"


def test_streaming_needs_dislikes(store: ArtifactStore, source: Path) -> None:
    context = context_of(store, source, history="liked")
    data = reference(prepare_data.fn(context))
    with pytest.raises(ConfigError, match=r"bias_streaming under data\.history liked; expected labelled"):
        fit_rung.fn(context, data, "bias_streaming")
