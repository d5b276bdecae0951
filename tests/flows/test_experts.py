"""Experts of a tiny run, trained by every task runner: the same adapters; and their number chosen on valid rows."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from prefect import flow

from flows.experts import Experts, make_experts
from flows.run import Run
from storage.language_model import ADAPTER, adapter_weights
from storage.store import ArtifactRef, ArtifactStore
from storage.tracking import Tracker
from tasks.stage import RunContext
from tasks.train_llm import train_general
from tasks.view import View
from tests.tiny_model import write_tiny_model
from tests.tiny_world import tiny_world, write_world
from thinkrec_core.config.root import ThinkRecConfig
from thinkrec_core.errors import TrainingError
from thinkrec_core.recllm.adapters import layer_of

pytestmark = pytest.mark.slow

STEPS = {
    "learning_rate": 5e-3,
    "min_learning_rate": 1e-3,
    "warmup_learning_rate": 1e-4,
    "warmup_steps": 2,
    "steps": 4,
    "batch_size": 4,
    "validate_every": 2,
}


class Tiny:
    """A tiny world in a store, with its general adapter trained."""

    def __init__(self, root: Path) -> None:
        self.root, self.store = root, ArtifactStore(root / "store")
        self.model = write_tiny_model(root / "model")
        folders = write_world(root / "inputs", tiny_world(train=120, valid=60))
        self.inputs = {name: self._publish(name, folders[name]) for name in ("data", "encoder", "reflections")}
        general = train_general.fn(self.context(), **self.inputs)
        assert isinstance(general, ArtifactRef)
        self.inputs["general"] = general

    def _publish(self, stage: str, folder: Path) -> ArtifactRef:
        with self.store.locked(stage, "k"):
            draft = self.store.draft(stage, "k")
            for path in folder.iterdir():
                (draft.path / path.name).write_bytes(path.read_bytes())
            return self.store.publish(draft, stage, "k", {})

    def context(self, store: ArtifactStore | None = None, **experts: Any) -> RunContext:
        engine = {"backend": "torch", "threads": 1, "checkpoint_every": 2}
        config = ThinkRecConfig.model_validate(
            {
                "llm": {"model": str(self.model), "dtype": "fp32", "lora": {"rank": 4}, "projector": {"multiplier": 2}},
                "training": {"schedule": "joint", "valid_rows": 20, "engine": engine, **STEPS},
                "experts": {"last_layers": 2, "min_rows": 4, "training": STEPS, "valid_rows": 40, **experts},
            }
        )
        store = store or self.store
        return RunContext(config, store, Tracker.start(store.root, "tiny", {}), View())

    def experts(self, name: str, **experts: Any) -> tuple[Run, Experts]:
        """The experts, made in a store of their own that has the artifacts they start from."""
        root = self.root / name
        store = ArtifactStore(root)
        for ref in self.inputs.values():
            target = root / "artifacts" / ref.stage
            target.mkdir(parents=True, exist_ok=True)
            (target / ref.key).symlink_to(self.store.path(ref).resolve())
        run = Run(name, "tiny", self.context(store, **experts), time.monotonic())

        @flow(name="experts", persist_result=False)
        def make() -> Experts:
            return make_experts(run, **self.inputs)

        return run, make()


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory, prefect_api: None) -> Tiny:
    return Tiny(tmp_path_factory.mktemp("experts"))


@pytest.fixture(scope="module")
def one_by_one(tiny: Tiny) -> Experts:
    return tiny.experts("sequential")[1]


@pytest.mark.parametrize("runner", ["threads", "ray", "dask"])
def test_two_at_once_are_the_adapters_of_one_after_the_other(tiny: Tiny, one_by_one: Experts, runner: str) -> None:
    if runner != "threads":
        pytest.importorskip(f"prefect_{runner}")
    run, made = tiny.experts(runner, parallel={"runner": runner, "workers": 2})
    assert len(made.experts) == 2
    assert [ref.digest for ref in made.experts] == [ref.digest for ref in one_by_one.experts]
    results = run.context.results
    assert {name: results[name].status for name in results} == dict.fromkeys(
        ("clusters", "expert_0", "expert_1"), "ran"
    )
    assert all(run.context.store.manifest(ref)["mlflow_run"] for ref in made.experts)  # curves of other processes too


def test_an_expert_differs_from_the_general_adapter_in_its_last_layers_only(tiny: Tiny, one_by_one: Experts) -> None:
    store = ArtifactStore(tiny.root / "sequential")
    general = adapter_weights(store.path(tiny.inputs["general"]) / ADAPTER)
    for ref in one_by_one.experts:
        own = adapter_weights(store.path(ref) / ADAPTER)
        changed = {layer_of(name) for name in own if not own[name].equal(general[name])}
        assert changed == {2, 3}


def test_the_number_is_chosen_on_valid_rows_and_equal_groups_are_trained_once(tiny: Tiny) -> None:
    run, made = tiny.experts("valid", choose="valid", max_count=3)
    assert made.choice is not None
    choice = json.loads((run.context.store.path(made.choice) / "choice.json").read_text())
    scores = {int(count): row["score"] for count, row in choice["by_count"].items()}
    assert set(scores) == {1, 2, 3}
    assert choice["count"] == max(scores, key=lambda count: (scores[count], -count))
    assert [row["experts"] for row in choice["by_count"].values()] == [0, 2, 3]
    # Ward's partitions are nested: one of three groups is one of the two.
    assert sum(name.startswith("expert_") for name in run.context.results) == 4
    assert len(made.experts) == choice["by_count"][str(choice["count"])]["experts"]


def test_a_failed_training_is_told_and_ends_the_one_beside_it(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    from tasks import train_llm

    def command(job: Any, spec: Path) -> list[str]:
        return ["sh", "-c", "exit 7" if job.cluster == 1 else "sleep 300"]

    monkeypatch.setattr(train_llm, "_command", command)
    start = time.monotonic()
    with pytest.raises(TrainingError, match="expert_1 stopped with exit code 7"):
        tiny.experts("failing", parallel={"runner": "threads", "workers": 2})
    assert time.monotonic() - start < 120
