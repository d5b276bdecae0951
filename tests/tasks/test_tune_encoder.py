"""Searches on a small source: seeded, resumable after a kill, on train and valid alone."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from storage.store import ArtifactRef, ArtifactStore
from storage.studies import open_study
from storage.tracking import NullTracker, Tracker
from tasks.prepare_data import prepare_data
from tasks.stage import RunContext
from tasks.tune_encoder import Search, tune_encoder
from tasks.view import View
from tests.taste_source import write_taste_source
from thinkrec_core.config.encoder import EncoderConfig
from thinkrec_core.config.root import ThinkRecConfig
from thinkrec_core.errors import StoreError
from thinkrec_core.tuning.space import Choices, Range, space_of

RANGES = {
    "learning_rate": Range(1e-3, 1e-1, log=True, whole=False),
    "embedding_size": Choices((4, 8)),
    "batch_size": Choices((128, 256)),
}
BASE = EncoderConfig(kind="mf", embedding_size=8, learning_rate=0.02, batch_size=128, epochs=9, patience=9)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_taste_source(tmp_path_factory.mktemp("source"), 30, 30)


def context_of(root: Path, source: Path, tracker: Tracker | None = None) -> tuple[RunContext, ArtifactRef]:
    config = ThinkRecConfig.model_validate({"data": {"source": str(source)}})
    context = RunContext(config, ArtifactStore(root), tracker or NullTracker(), View())
    result = prepare_data.fn(context)
    return context, result if isinstance(result, ArtifactRef) else result.data


def search(trials: int, base: EncoderConfig = BASE, **named: Any) -> Search:
    return Search(base, space_of(base, RANGES), named.pop("by", "auc"), trials, **named)


def tuned(root: Path, source: Path, wanted: Search) -> dict[str, Any]:
    return tune_encoder.fn(*context_of(root, source), wanted)


def plain(found: dict[str, Any]) -> list[tuple[Any, ...]]:
    """What trials are, but for their numbers and seconds."""
    return [(t["state"], t["value"], json.dumps(t["params"]), str(t["valid"])) for t in found["trials"]]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, source: Path) -> dict[str, Any]:
    """A search of 12 trials without a break: more than are drawn at random."""
    return tuned(tmp_path_factory.mktemp("whole"), source, search(12))


def test_the_search_starts_at_the_base_and_keeps_the_best(whole: dict[str, Any]) -> None:
    assert whole["finished"] == len(whole["trials"]) == 12
    first = whole["trials"][0]
    assert first["params"] == {name: getattr(BASE, name) for name in first["params"]}
    assert whole["default"] == first
    assert set(first["params"]) == {"learning_rate", "weight_decay", "embedding_size", "batch_size"}
    complete = [trial for trial in whole["trials"] if trial["value"] is not None]
    assert whole["best"]["value"] == max(trial["value"] for trial in complete) >= first["value"]
    assert whole["pruned"] == 12 - len(complete) > 0
    assert len({json.dumps(trial["params"]) for trial in whole["trials"]}) == 12


def test_a_search_in_pieces_draws_the_same_trials(tmp_path: Path, source: Path, whole: dict[str, Any]) -> None:
    assert plain(tuned(tmp_path, source, search(5))) == plain(whole)[:5]
    assert plain(tuned(tmp_path, source, search(12))) == plain(whole)
    started = time.monotonic()
    assert plain(tuned(tmp_path, source, search(12))) == plain(whole)
    assert time.monotonic() - started < 20  # nothing is fitted


def test_a_trial_that_a_kill_left_open_is_drawn_again(tmp_path: Path, source: Path, whole: dict[str, Any]) -> None:
    name = tuned(tmp_path, source, search(3))["study"]
    with open_study(tmp_path, name) as (study, folder):
        study.ask()
    with (folder / "journal.log").open("a") as file:
        file.write('{"op_code":9,"wor')  # half a line, as a crash leaves it
    found = tuned(tmp_path, source, search(12))
    assert plain(found) == plain(whole)
    assert found["killed"] == 1


def _until_killed(root: Path, source: Path) -> None:
    tuned(root, source, search(12))


@pytest.mark.slow
def test_a_killed_search_goes_on_to_the_same_trials(tmp_path: Path, source: Path, whole: dict[str, Any]) -> None:
    context_of(tmp_path, source)
    worker = multiprocessing.get_context("spawn").Process(target=_until_killed, args=(tmp_path, source))
    worker.start()
    deadline = time.monotonic() + 120
    journals: list[Path] = []
    while time.monotonic() < deadline and worker.is_alive():
        journals = list(tmp_path.glob("tuning/*/journal.log"))
        # op_code 6 tells a state: two trials came to an end, a third one is drawn.
        if journals and journals[0].read_text().count('"op_code":6') >= 2:
            break
        time.sleep(0.01)
    assert worker.is_alive()
    assert worker.pid is not None
    os.kill(worker.pid, signal.SIGKILL)
    worker.join()
    found = tuned(tmp_path, source, search(12))
    assert plain(found) == plain(whole)
    assert found["killed"] <= 1


def test_other_rows_settings_or_figures_are_another_study(tmp_path: Path, source: Path) -> None:
    first = tuned(tmp_path, source, search(1))
    other = tuned(tmp_path, source, search(1, by="auc/4+uauc/3"))
    longer = tuned(tmp_path, source, search(1, BASE.model_copy(update={"epochs": 10})))
    assert len({first["study"], other["study"], longer["study"]}) == 3
    figures = other["best"]["valid"]
    assert other["best"]["value"] == pytest.approx(figures["auc"] / 4 + figures["uauc"] / 3)


def test_test_rows_are_not_read(tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import tasks.tune_encoder as module

    opened: list[str] = []
    read = module.read_examples
    monkeypatch.setattr(module, "read_examples", lambda path: opened.append(path.name) or read(path))
    tuned(tmp_path, source, search(1))
    assert opened == ["samples_train.parquet", "samples_valid.parquet"]


def test_a_fit_that_diverges_is_a_bad_trial_and_not_the_end(tmp_path: Path, source: Path) -> None:
    base = BASE.model_copy(update={"learning_rate": 1e18})
    wild = Search(base, space_of(base, {"learning_rate": Choices((1e18, 0.02))}), "auc", 6)
    found = tuned(tmp_path, source, wild)
    assert found["finished"] == 6
    assert any("loss" in (trial["error"] or "") for trial in found["trials"])
    assert found["best"]["params"]["learning_rate"] == 0.02


def test_figures_are_means_over_seeds(tmp_path: Path, source: Path) -> None:
    found = tuned(tmp_path, source, search(1, seeds=3))
    assert len(found["best"]["epochs"]) == 3


@pytest.mark.parametrize("kind", ["lightgcn", "sasrec", "din", "dcn", "thinkrec_core.encoders.mf:MatrixFactorisation"])
def test_every_kind_of_encoder_can_be_tuned(tmp_path: Path, source: Path, kind: str) -> None:
    base = EncoderConfig(kind=kind, embedding_size=8, batch_size=256, epochs=1)
    found = tuned(tmp_path, source, Search(base, space_of(base, {}), "auc", 2))
    assert found["finished"] == 2
    assert found["best"]["valid"]["auc"] > 0.3


def test_one_process_at_a_time(tmp_path: Path) -> None:
    with (
        open_study(tmp_path, "a"),
        pytest.raises(StoreError, match="study a is in use by another run"),
        open_study(tmp_path, "a"),
    ):
        pass
    with open_study(tmp_path, "a"), open_study(tmp_path, "b"):
        pass


def test_a_journal_that_is_none_is_one_line(tmp_path: Path) -> None:
    with open_study(tmp_path, "a"):
        pass
    (tmp_path / "tuning" / "a" / "journal.log").write_text("nonsense\nmore\n")
    with pytest.raises(StoreError, match=r"journal\.log cannot be read"), open_study(tmp_path, "a"):
        pass


def test_trials_are_child_runs_of_mlflow(tmp_path: Path, source: Path) -> None:
    from mlflow.tracking import MlflowClient

    root = tmp_path / "store"
    ArtifactStore(root)
    tracker = Tracker.start(root, "tune", {})
    context, data = context_of(root, source, tracker)
    found = tune_encoder.fn(context, data, search(2))
    tracker.finish()
    client = MlflowClient(tracker.uri)
    query = f"tags.mlflow.parentRunId = '{tracker.run_id}'"
    runs = {
        run.info.run_name: run
        for run in client.search_runs([client.get_experiment_by_name("thinkrec").experiment_id], query)
    }
    assert {"trial_0", "trial_1"} <= set(runs)
    assert float(runs["trial_0"].data.params["learning_rate"]) == BASE.learning_rate
    assert runs["trial_0"].data.metrics["value"] == pytest.approx(found["trials"][0]["value"])
    assert "valid_auc_seed0" in runs["trial_0"].data.metrics
