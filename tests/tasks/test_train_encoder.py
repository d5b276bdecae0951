"""The encoder stage on a small source: files that later stages read, and scores that belong to the samples."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from prefect.client.schemas.objects import State
from safetensors.torch import load_file

from storage.code_digest import closure
from storage.encoder_data import read_examples
from storage.rec_data import load_encoder_tables, load_samples
from storage.store import ArtifactRef, ArtifactStore
from storage.tracking import NullTracker
from tasks.prepare_data import prepare_data
from tasks.stage import RunContext
from tasks.train_encoder import train_encoder
from tasks.view import View
from thinkrec_core.config.encoder import EncoderConfig
from thinkrec_core.config.root import ThinkRecConfig
from thinkrec_core.encoders.fit import score_examples
from thinkrec_core.encoders.registry import restore_encoder
from thinkrec_core.evaluation.auc import auc


def write_source(folder: Path) -> Path:
    """Users and items of two kinds; a user likes the own kind nine times out of ten."""
    folder.mkdir()
    rng = np.random.default_rng(5)
    rows = []
    for user in range(30):
        for time, item in enumerate(rng.permutation(30)):
            liked = rng.random() < (0.9 if user % 2 == item % 2 else 0.1)
            rows.append(f"u{user},i{item},{int(liked)},{1000 * user + time}")
    (folder / "interactions.csv").write_text("user_id,item_id,label,timestamp\n" + "\n".join(rows) + "\n")
    items = [f"i{item},Title {item}" for item in range(30)]
    (folder / "items.csv").write_text("item_id,title\n" + "\n".join(items) + "\n")
    return folder


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> ArtifactStore:
    return ArtifactStore(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_source(tmp_path_factory.mktemp("source") / "rows")


def run(store: ArtifactStore, source: Path, **encoder: Any) -> tuple[Path, Path, RunContext]:
    settings = {"embedding_size": 8, "learning_rate": 0.02, "batch_size": 128, "epochs": 8, "prior_folds": 2, **encoder}
    config = ThinkRecConfig.model_validate({"data": {"source": str(source)}, "encoder": settings})
    context = RunContext(config, store, NullTracker(), View())
    data = reference(prepare_data.fn(context))
    return store.path(data), store.path(reference(train_encoder.fn(context, data))), context


def reference(result: ArtifactRef | State[ArtifactRef]) -> ArtifactRef:
    return result if isinstance(result, ArtifactRef) else result.data


@pytest.mark.parametrize("kind", ["mf", "lightgcn", "sasrec"])
def test_files_fit_together(store: ArtifactStore, source: Path, kind: str) -> None:
    data, folder, _ = run(store, source, kind=kind)
    settings = json.loads((folder / "encoder.json").read_text())
    assert (settings["users"], settings["items"]) == (30, 30)
    tables = load_encoder_tables(folder)
    assert tables.user_vectors.shape == tables.item_vectors.shape == (31, 8)
    encoder = restore_encoder(EncoderConfig(**settings["config"]), load_file(folder / "weights.safetensors"))
    for split in ("valid", "test"):
        samples = load_samples(data, folder, split)  # type: ignore[arg-type]
        scores = score_examples(encoder, read_examples(data / f"samples_{split}.parquet"))
        np.testing.assert_array_equal(scores, samples.encoder_logit.astype(np.float32))
        assert (auc(scores, samples.label) or 0) > 0.7
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["kind"] == kind
    assert metrics["valid_auc"] == max(epoch["valid_auc"] for epoch in metrics["epochs"]) > metrics["start_valid_auc"]


def test_train_scores_are_out_of_fold(store: ArtifactStore, source: Path) -> None:
    data, folder, _ = run(store, source, kind="mf")
    settings = json.loads((folder / "encoder.json").read_text())
    encoder = restore_encoder(EncoderConfig(**settings["config"]), load_file(folder / "weights.safetensors"))
    train = load_samples(data, folder, "train")
    memory = auc(score_examples(encoder, read_examples(data / "samples_train.parquet")), train.label)
    unseen = auc(train.encoder_logit, train.label)
    assert memory is not None
    assert unseen is not None
    assert 0.6 < unseen < memory - 0.02


def test_the_key_holds_the_encoder_settings(store: ArtifactStore, source: Path) -> None:
    _, first, _ = run(store, source, kind="mf")
    _, again, context = run(store, source, kind="mf")
    assert again == first
    assert context.results["encoder"].status == "cached"
    _, _, context = run(store, source, kind="mf", weight_decay=0.01)
    assert (context.results["data"].status, context.results["encoder"].status) == ("cached", "ran")


def test_prompts_are_no_part_of_the_key() -> None:
    assert not [name for name in closure("tasks.train_encoder") if name.startswith("thinkrec_core.recllm")]
