"""Runs that compete: a first model becomes champion, a worse one is refused, a better one promoted; killed or not."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pytest_httpserver import HTTPServer

from benchmarks.kill.world import ScriptedTeacher, make_world
from flows.notify import VARIABLE
from storage.crash_points import AT
from storage.home import ENVIRONMENT_VARIABLE
from storage.model_registry import ModelRegistry
from storage.snapshots import append_snapshot
from storage.synthetic_folder import write_synthetic
from thinkrec_core.config.data import DataConfig
from thinkrec_core.synthetic import SyntheticSpec

SCRIPT = Path(__file__).with_name("promotion_run.py")
KILLED = -9
POOR = {"encoder.biases": False, "encoder.epochs": 1}
"""An encoder that knows neither users nor items: its logits are close to nothing."""


class World:
    """A world with some hundred valid rows, and runs in one store."""

    def __init__(self, folder: Path, teacher: str) -> None:
        self.folder, self.root = folder, folder / "store"
        self.overrides = {**make_world(folder), "teacher.base_url": teacher}
        shutil.rmtree(folder / "data")
        write_synthetic(SyntheticSpec(users=60, items=120, rows=1800, clusters=2), folder / "data")
        self.overrides |= {"rerun.promote": True, "rerun.rows": 300, "evaluation.bootstrap": 200}

    def run(self, code: int = 0, root: Path | None = None, at: str = "", hook: str = "", **changed: Any) -> Any:
        overrides = {**self.overrides, **{name.replace("__", "."): value for name, value in changed.items()}}
        variables = {**os.environ, ENVIRONMENT_VARIABLE: str(root or self.root), "OMP_NUM_THREADS": "1"}
        variables |= {AT: at} if at else {}
        variables |= {VARIABLE: hook} if hook else {}
        command = [sys.executable, str(SCRIPT), json.dumps(overrides)]
        done = subprocess.run(command, env=variables, capture_output=True, text=True, check=False, timeout=300)
        assert done.returncode == code, done.stderr
        return json.loads(done.stdout.splitlines()[-1]) if not code else None


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with ScriptedTeacher() as teacher:
        yield World(tmp_path_factory.mktemp("world"), teacher.url)


@pytest.mark.slow
def test_a_better_model_is_promoted_and_a_worse_one_refused_and_mlflow_shows_both(
    world: World, httpserver: HTTPServer, tmp_path: Path
) -> None:
    httpserver.expect_request("/hook", method="POST").respond_with_data("")
    hook = httpserver.url_for("/hook")
    poor = {name.replace(".", "__"): value for name, value in POOR.items()}
    first = world.run(hook=hook, **poor)
    assert first["promotion"]["decision"] == "promoted"
    assert "first version" in first["promotion"]["reason"]
    shutil.copytree(world.root, tmp_path / "before")
    better = world.run(hook=hook)["promotion"]
    assert (better["decision"], better["champion_version"]) == ("promoted", 2)
    assert better["ci"][0] > 0
    worse = world.run(hook=hook, seed=8, **poor)
    told = worse["promotion"]
    assert (told["decision"], told["champion_version"]) == ("refused", 2)
    assert told["difference"] < 0
    assert "The model in use" in Path(worse["report"]).read_text()
    assert [request.json["version"] for request, _ in httpserver.log if request.json["event"] == "promoted"] == [1, 2]

    registry = ModelRegistry.opened(world.root)
    client = registry._client
    versions = registry.versions()
    assert [each.facts["decision"] for each in versions] == ["promoted", "promoted", "refused"]
    assert [each.aliases for each in versions] == [(), ("champion",), ("candidate",)]
    shown = client.get_run(client.get_model_version(versions[2].model, "3").run_id)
    assert shown.data.tags["thinkrec.decision"] == "refused"
    assert shown.data.metrics["promotion/difference"] == told["difference"]

    again = world.run(seed=8, **poor)  # unchanged: the decision stands and nothing is scored
    assert {stage["status"] for stage in again["stages"].values()} == {"cached"}
    assert again["promotion"] == told
    assert len(ModelRegistry.opened(world.root).versions()) == 3


@pytest.mark.slow
@pytest.mark.parametrize("point", ["promotion/registered", "promotion/decided", "promotion/publish.renamed"])
def test_killed_while_it_is_being_decided_a_rerun_ends_the_same(world: World, point: str, tmp_path: Path) -> None:
    root = tmp_path / "store"
    world.run(code=KILLED, root=root, at=point)
    world.run(root=root)
    (version,) = ModelRegistry.opened(root).versions()
    assert version.aliases == ("candidate", "champion")
    assert version.facts["decision"] == "promoted"


@pytest.mark.slow
def test_a_rerun_on_more_data_starts_from_the_champion_tells_the_drift_and_is_then_unchanged(
    world: World, tmp_path: Path
) -> None:
    root, shop = tmp_path / "store", tmp_path / "shop"
    more = tmp_path / "more"
    # Half as many users again and twice the tastes, later than all rows before.
    write_synthetic(SyntheticSpec(users=90, items=120, rows=2700, clusters=4, seed=9), more)
    append_snapshot(DataConfig(source=world.overrides["data.source"]), shop)
    settings = {"data__source": str(shop), "rerun__start_from": "champion"}
    first = world.run(root=root, **settings)
    assert "start" not in first["stages"]
    append_snapshot(DataConfig(source=str(more)), shop)
    second = world.run(root=root, **settings)
    assert {"start", "drift", "champion_scores", "candidate_scores"} <= second["stages"].keys()
    encoder = {run["run"]: folder(root, run, "encoder") for run in (first, second)}
    passes = [json.loads((path / "encoder.json").read_text())["passes"] for path in encoder.values()]
    assert passes[1] >= passes[0]
    drift = json.loads((folder(root, second, "drift") / "drift.json").read_text())
    assert drift["new_user_rows"] > 0
    assert drift["champion"]["own_auc"] is not None
    assert "started from the champion" in Path(second["report"]).read_text()
    third = world.run(root=root, **settings)
    assert {stage["status"] for stage in third["stages"].values()} == {"cached"}
    assert third["promotion"]["version"] == 2


def folder(root: Path, run: Any, stage: str) -> Path:
    ref = run["artifacts"][stage]
    return root / "artifacts" / ref["stage"] / ref["key"]
