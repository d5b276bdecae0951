"""Registered models in a real MLflow database: versions, aliases, the bundle behind a name."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from storage.bundle import FORMAT, MANIFEST, VERSION, Bundle, _files, open_bundle
from storage.model_registry import ModelRegistry, bundle_folder, model_name, named_version
from storage.tracking import NullTracker, Tracker
from thinkrec_core.config.root import ThinkRecConfig
from thinkrec_core.errors import DataError, StoreError

FIRST = {"decision": "promoted", "reason": "the first version", "difference": None}
WORSE = {"decision": "refused", "reason": "not above the margin", "difference": -0.1, "margin": 0.0}


def bundle(root: Path, run: str, auc: float) -> Bundle:
    """The shape of a bundle below bundles/ of the store."""
    folder = root / "bundles" / run
    (folder / "general").mkdir(parents=True)
    (folder / "general" / "projector.safetensors").write_text(run)
    facts = {
        "format": FORMAT,
        "version": VERSION,
        "run": run,
        "config": ThinkRecConfig().model_dump(mode="json"),
        "base": {"model": "tiny", "digest": "d"},
        "experts": [0, 1],
        "metrics": {"thinkrec_experts": {"auc": auc, "uauc": None, "auc_ci": [0.1, 0.9]}},
        "files": _files(folder),
    }
    (folder / MANIFEST).write_text(json.dumps(facts))
    return open_bundle(folder)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Tracker]:
    """A store with two versions of one model: the first is the champion, the second was refused."""
    root = tmp_path_factory.mktemp("store")
    tracker = Tracker.start(root, "run", {})
    registry = tracker.registry()
    assert registry is not None
    one = registry.register("m", bundle(root, "one", 0.7), "parts-1", tracker.run_id)
    registry.promote(one)
    registry.decided(one, FIRST, tracker.run_id)
    two = registry.register("m", bundle(root, "two", 0.6), "parts-2", tracker.run_id)
    registry.decided(two, WORSE, tracker.run_id)
    return root, tracker


def test_each_bundle_is_a_version_with_its_facts_and_decision(store: tuple[Path, Tracker]) -> None:
    registry = ModelRegistry.opened(store[0])
    one, two = registry.versions("m")
    assert (one.name, one.run, one.aliases) == ("m/1", "one", ("champion",))
    assert (two.name, two.aliases) == ("m/2", ("candidate",))
    assert two.facts["decision"] == "refused"
    assert json.loads(two.facts["difference"]) == -0.1
    assert registry.with_parts("m", "parts-2") == two
    assert registry.with_parts("m", "parts-3") is None
    assert registry.holder("m", "champion") == one
    assert registry.holder("other", "champion") is None


def test_mlflow_itself_shows_model_metrics_and_files(store: tuple[Path, Tracker]) -> None:
    registry = ModelRegistry.opened(store[0])
    client = registry._client
    found = client.get_model_version_by_alias("m", "candidate")
    assert found.description == "refused: not above the margin"
    logged = client.get_logged_model(found.tags["thinkrec.logged_model"])
    figures = {each.key: each.value for each in logged.metrics}
    assert figures["thinkrec_experts/auc"] == 0.6
    assert figures["promotion/difference"] == -0.1
    assert str(logged.status) == "READY"
    assert {Path(each.path).name for each in client.list_logged_model_artifacts(logged.model_id)} == {"bundle"}


def test_a_name_leads_to_a_folder_and_to_the_copy_in_mlflow_where_that_is_gone(store: tuple[Path, Tracker]) -> None:
    root, _ = store
    for name in ("champion", "m@champion", "m/1"):
        assert bundle_folder(root, name) == root / "bundles" / "one"
    assert bundle_folder(root, "candidate") == root / "bundles" / "two"
    assert bundle_folder(root, "quickstart-20260101-000000") is None
    shutil.rmtree(root / "bundles" / "two")
    found = bundle_folder(root, "m/2")
    assert found is not None
    assert open_bundle(found).run == "two"


def test_an_unknown_or_ambiguous_name_is_one_line(store: tuple[Path, Tracker], tmp_path: Path) -> None:
    root, tracker = store
    with pytest.raises(DataError, match=r"no registered version m/9.*m/1 champion"):
        bundle_folder(root, "m/9")
    with pytest.raises(StoreError, match="no models are registered"):
        bundle_folder(tmp_path, "champion")
    registry = tracker.registry()
    assert registry is not None
    registry.promote(registry.register("other", bundle(root, "three", 0.5), "p", tracker.run_id))
    with pytest.raises(DataError, match=r"expected m@champion or other@champion"):
        named_version(registry, "champion")


def test_a_silent_tracker_has_no_registry() -> None:
    assert NullTracker().registry() is None


def test_a_model_is_named_after_preset_and_source() -> None:
    assert model_name("smoke", "ml-100k") == "smoke-ml-100k"
    assert model_name("kill", "/data/our shop/") == "kill-our-shop"
