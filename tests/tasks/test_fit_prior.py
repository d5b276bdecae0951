"""Stage `prior`, and everybody who reads it: training, evaluation, the choice of N, a bundle's recommender, newcomers."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from storage.bundle import open_bundle
from storage.language_model import load_tokenizer
from storage.prior_data import PRIOR, read_prior
from storage.rec_data import load_samples
from storage.schemas import ENCODER_SCORES
from storage.store import ArtifactRef
from storage.tables import read_table
from tasks.evaluate import evaluate
from tasks.fit_prior import fit_llm_prior
from tasks.recommender import Reader, Recommender
from tasks.worker.build import Examples
from tests.tasks import test_newcomers
from tests.tasks.test_evaluate_experts import Made, ref
from tests.tiny_bundle import write_tiny_bundle
from tests.tiny_model import one_thread
from tests.tiny_recllm import tiny_recllm
from thinkrec_core.config.root import ThinkRecConfig
from thinkrec_core.encoders.examples import Examples as Rows
from thinkrec_core.errors import StoreError

__all__ = ["one_thread"]

SMALL = {"folds": 2, "replicas": 2, "iterations": 10}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A tiny run up to its adapters whose prior is the stacker."""
    run = Made(tmp_path_factory.mktemp("prior"))
    values = run.context.config.model_dump(mode="json")
    values["training"]["prior"] = "stacker"
    values["ladder"]["stacker"] |= SMALL
    values["evaluation"] |= {
        "rungs": ["bias", "stacker", "thinkrec_general_llm", "thinkrec_general"],
        "floor": "stacker",
    }
    run.context = replace(run.context, config=ThinkRecConfig.model_validate(values))
    return run


@pytest.fixture(scope="module")
def prior(made: Made) -> ArtifactRef:
    return ref(fit_llm_prior.fn(made.context, made.data, made.encoder, "stacker"))


def test_it_stands_for_the_encoder_and_is_fitted_once(made: Made, prior: ArtifactRef) -> None:
    folder, encoder = made.store.path(prior), made.store.path(made.encoder)
    for path in encoder.iterdir():
        if path.name != "manifest.json":
            assert (folder / path.name).read_bytes() == path.read_bytes()
    described = json.loads((folder / "prior.json").read_text())
    assert described["kind"] == "stacker"
    samples = {split: load_samples(made.store.path(made.data), folder, split) for split in ("train", "valid")}  # type: ignore[arg-type]
    for split, each in samples.items():
        stored = read_table(folder / f"prior_{split}.parquet", ENCODER_SCORES).column("logit").to_numpy()
        np.testing.assert_array_equal(each.prior, stored.astype(np.float64))
        assert np.abs(each.prior - each.encoder_logit).max() > 0.1
    # Train logits are not those of the prior that has seen their users.
    seen = read_prior(folder).logits(rows_of(samples["train"]))
    assert np.abs(seen - samples["train"].prior).max() > 0.1
    np.testing.assert_allclose(read_prior(folder).logits(rows_of(samples["valid"])), samples["valid"].prior, atol=1e-6)
    fit_llm_prior.fn(made.context, made.data, made.encoder, "stacker")
    assert made.context.results["prior"].status == "cached"


def test_a_score_is_the_prior_and_the_llm_together(made: Made, prior: ArtifactRef) -> None:
    folder = made.store.path(ref(evaluate.fn(made.context, made.data, prior, made.general, made.clusters(1), ())))
    table = {
        name: np.array(values) for name, values in pq.read_table(folder / "predictions.parquet").to_pydict().items()
    }
    logits = load_samples(made.store.path(made.data), made.store.path(prior), "test").prior
    np.testing.assert_allclose(table["score_stacker"], logits)
    np.testing.assert_allclose(table["score_thinkrec_general"], table["score_thinkrec_general_llm"] + logits)
    assert json.loads((folder / "rungs.json").read_text())["floor"] == "stacker"


def test_training_reads_the_prior_and_an_encoder_alone_is_refused(made: Made, prior: ArtifactRef) -> None:
    path, config = made.store.path, made.context.config
    tokenizer = load_tokenizer(Path(config.llm.model))
    examples = Examples(config, path(made.data), path(prior), tokenizer)
    answers = tiny_recllm().model.answers
    factory = examples.factory(examples.train, answers, with_prior=True)
    assert [factory.make(row, "text").prior for row in range(9)] == examples.train.prior[:9].tolist()
    with pytest.raises(StoreError, match=r"no logits of training\.prior stacker"):
        Examples(config, path(made.data), path(made.encoder), tokenizer)


def test_a_bundle_answers_with_the_prior(made: Made, prior: ArtifactRef, tmp_path: Path) -> None:
    fitted = read_prior(made.store.path(prior))
    recommender = Recommender(open_bundle(write_tiny_bundle(tmp_path, prior=fitted)))
    readers = [recommender.user("1"), recommender.stranger(["Item 4"]), Reader(2, (2, 9), (1, 0), "2")]
    found = recommender.score_rows(readers, np.array([3, 5, 7]))
    histories = [(reader.items, reader.labels) for reader in readers]
    rows = Rows(
        user_idx=np.array([reader.user_idx for reader in readers]),
        item_idx=np.array([3, 5, 7]),
        label=np.zeros(3, np.int64),
        history_offsets=np.cumsum([0, *(len(items) for items, _ in histories)]),
        history_items=np.array([item for items, _ in histories for item in items]),
        history_labels=np.array([label for _, labels in histories for label in labels]),
    )
    np.testing.assert_allclose(found.final - found.llm, fitted.logits(rows), atol=1e-9)
    assert np.ptp(found.final - found.llm) > 0.05
    (tmp_path / "bundle" / "encoder" / PRIOR).write_bytes(b"{}")
    with pytest.raises(StoreError, match="cannot be read"):
        read_prior(tmp_path / "bundle" / "encoder")


def test_newcomers_are_unknown_to_the_prior_and_the_others_keep_theirs(
    made: Made, prior: ArtifactRef, tmp_path: Path
) -> None:
    grown = test_newcomers.Made(tmp_path)
    fitted = read_prior(made.store.path(prior))

    def write(folder: Path) -> None:
        test_newcomers.write_encoder(folder)
        (folder / PRIOR).write_bytes((made.store.path(prior) / PRIOR).read_bytes())

    grown.encoder = grown.publish("encoder", "with_prior", write)
    folder, _ = grown.extended()
    samples = load_samples(grown.store.path(grown.new), folder, "train")
    np.testing.assert_allclose(samples.prior, fitted.logits(rows_of(samples)), atol=1e-6)
    assert (folder / PRIOR).read_bytes() == (made.store.path(prior) / PRIOR).read_bytes()


def rows_of(samples: Any) -> Rows:
    names = ("user_idx", "item_idx", "label", "history_offsets", "history_items", "history_labels")
    return Rows(**{name: getattr(samples, name) for name in names})
