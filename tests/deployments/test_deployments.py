"""The platform for real: a cron schedule fires, new data starts a run, and a second trigger during a run is not lost and makes a
candidate that is compared with the champion that the first one made."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from benchmarks.kill.world import SPEC, ScriptedTeacher, make_world
from deployments.ports import free_port
from deployments.prefect_rest import call
from flows.run import PARTS
from storage.model_registry import ModelRegistry
from storage.synthetic_folder import write_synthetic
from thinkrec_core.synthetic import SyntheticSpec

ROOT = Path(__file__).parents[2]
FILE = yaml.safe_load((ROOT / "prefect.yaml").read_text())


def test_every_part_but_the_last_has_a_deployment_and_all_take_turns() -> None:
    deployments = {each["name"]: each for each in FILE["deployments"]}
    assert set(deployments) == {"full", "nightly", "on-new-data"} | {part.replace("_", "-") for part in PARTS[:-1]}
    for name, each in deployments.items():
        assert each["concurrency_limit"] == {"limit": 1, "collision_strategy": "ENQUEUE"}
        part = each["parameters"].get("until")
        assert part is None or part == name.replace("-", "_")


class Platform:
    """`thinkrec up` in a store of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.home = folder, folder / "home"
        self.home.mkdir()
        self.world = make_world(folder / "world")
        found = self.thinkrec("up", "--prefect-port", str(free_port()), "--mlflow-port", str(free_port()))
        self.api = found["api"]

    def thinkrec(self, *arguments: str) -> dict[str, Any]:
        command = [sys.executable, "-m", "flows.cli", *arguments, "--json"]
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "THINKREC_HOME": str(self.home)}
        done = subprocess.run(
            command, cwd=self.folder, env=environment, capture_output=True, text=True, check=False, timeout=400
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    def configure(self, deployment: str, until: str | None, **overrides: Any) -> str:
        """The id of `deployment`, whose runs are small from now on."""
        found = call(f"{self.api}/deployments/filter", {"deployments": {"name": {"any_": [deployment]}}})
        parameters = {"preset": "kill", "overrides": {**self.world, **overrides}, "until": until}
        call(f"{self.api}/deployments/{found[0]['id']}", {"parameters": parameters}, "PATCH")
        return str(found[0]["id"])

    def runs(self, deployment: str, *states: str) -> list[dict[str, Any]]:
        """Runs of `deployment` in one of `states`; in any if none is named."""
        asked: dict[str, Any] = {"deployments": {"id": {"any_": [deployment]}}}
        if states:
            asked["flow_runs"] = {"state": {"type": {"any_": list(states)}}}
        found: list[dict[str, Any]] = call(f"{self.api}/flow_runs/filter", asked)
        return found


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    started = Platform(tmp_path_factory.mktemp("platform"))
    yield started
    started.thinkrec("down")


def until(condition: Callable[[], object], seconds: float = 400.0) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(2)
    return False


@pytest.mark.slow
def test_a_schedule_fires(platform: Platform) -> None:
    nightly = platform.configure("nightly", "data")
    schedule = {"schedule": {"cron": "* * * * *", "timezone": "UTC"}, "active": True}
    call(f"{platform.api}/deployments/{nightly}/schedules", [schedule])
    assert until(lambda: any(run["auto_scheduled"] for run in platform.runs(nightly, "COMPLETED")))
    for each in call(f"{platform.api}/deployments/{nightly}/schedules", None, "GET"):
        call(f"{platform.api}/deployments/{nightly}/schedules/{each['id']}", None, "DELETE")


@pytest.mark.slow
def test_new_data_starts_a_run_and_a_second_trigger_during_it_is_compared_with_the_first(platform: Platform) -> None:
    more = SyntheticSpec(users=SPEC.users, items=SPEC.items, rows=SPEC.rows, clusters=2, seed=8)
    write_synthetic(more, platform.folder / "more")
    dataset = str(platform.folder / "shop")
    with ScriptedTeacher() as teacher:
        promoting = {"rerun.promote": True, "evaluation.bootstrap": 100, "teacher.base_url": teacher.url}
        deployment = platform.configure("on-new-data", None, **promoting)
        first = platform.thinkrec("data", "append", platform.world["data.source"], "--to", dataset)
        # A run takes the newest snapshot when it starts: from here on it has its own.
        assert until(lambda: list(platform.home.glob("artifacts/encoder/*")))
        second = platform.thinkrec("data", "append", str(platform.folder / "more"), "--to", dataset)
        assert until(lambda: len(platform.runs(deployment, "COMPLETED")) == 2)
    assert first["announced"]
    assert second["announced"]
    assert first["snapshot"] != second["snapshot"]
    one, two = sorted(platform.runs(deployment), key=lambda run: run["start_time"])
    assert {run["parameters"]["snapshot"] for run in (one, two)} == {dataset}
    assert two["created"] < one["end_time"] <= two["start_time"]  # asked for during the first, begun after it

    registry = ModelRegistry.opened(platform.home)
    champion, candidate = registry.versions()
    assert "first version" in champion.facts["reason"]
    pages = call(f"{platform.api}/artifacts/filter", {"flow_runs": {"id": {"any_": [two["id"]]}}})
    (page,) = [page["data"] for page in pages if page["key"].startswith("promotion-")]
    assert candidate.facts["decision"] in page
    summaries = [json.loads(path.read_text()) for path in sorted((platform.home / "runs").glob("kill-*.json"))]
    (told,) = [each["promotion"] for each in summaries if each.get("promotion", {}).get("version") == 2]
    assert told["ci"][0] <= told["difference"] <= told["ci"][1]
    assert told["decision"] == ("promoted" if told["ci"][0] > 0 else "refused")


@pytest.mark.slow
def test_a_run_that_looks_alive_without_a_worker_is_found_and_crashed(platform: Platform) -> None:
    deployment = platform.configure("full", "data")
    run = call(f"{platform.api}/deployments/{deployment}/create_flow_run", {"state": {"type": "RUNNING"}})
    record = json.loads((platform.home / "platform" / "worker.json").read_text())
    assert platform.thinkrec("doctor")["fine"]
    os.kill(record["pid"], 9)
    time.sleep(2)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "THINKREC_HOME": str(platform.home)}
    command = [sys.executable, "-m", "flows.cli", "doctor", "--mend", "--json"]
    done = subprocess.run(command, cwd=platform.folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2  # the worker has ended
    found = {each["name"]: each for each in json.loads(done.stdout)["findings"]}
    assert not found["worker"]["fine"]
    assert found["zombies"]["remedy"] == "marked as crashed"
    assert call(f"{platform.api}/flow_runs/{run['id']}", None, "GET")["state"]["type"] == "CRASHED"
