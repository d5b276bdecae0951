from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from pytest_httpserver import HTTPServer

from flows import run as run_module
from flows.config import load_config
from flows.notify import VARIABLE
from flows.preflight import preflight
from flows.run import Enough, Run, open_run
from flows.views import LogView, current_view, showing
from storage.store import ArtifactRef, ArtifactStore, Draft
from storage.tracking import NullTracker, StageTracker
from tasks.stage import RunContext, run_stage
from tasks.view import View
from thinkrec_core.errors import ConfigError, ModelError


@task(name="number", cache_policy=NO_CACHE)
def number(context: RunContext, value: int, *parents: ArtifactRef) -> ArtifactRef | State[ArtifactRef]:
    def build(draft: Draft, tracker: StageTracker) -> None:
        (draft.path / "number").write_text(str(value))

    inputs = {parent.stage: parent for parent in parents}
    return run_stage(context, f"number_{value}", build, inputs=inputs, settings={"value": value})


@pytest.mark.usefixtures("prefect_api")
def test_a_stage_gives_its_artifact_whether_it_ran_or_was_cached(tmp_path: Path) -> None:
    @flow(name="two numbers")
    def two_numbers() -> list[Any]:
        context = RunContext(load_config("smoke"), ArtifactStore(tmp_path), NullTracker(), View())
        run = Run("name", "smoke", context, 0.0)
        first = run(number, 1)
        second = run(number, 2, first)
        return [first, second, {name: result.status for name, result in context.results.items()}]

    *made, ran = two_numbers()
    *found, cached = two_numbers()
    assert made == found
    assert all(isinstance(ref, ArtifactRef) for ref in made)
    assert ran == {"number_1": "ran", "number_2": "ran"}
    assert cached == {"number_1": "cached", "number_2": "cached"}


def test_a_stage_that_gives_no_artifact_is_a_bug(tmp_path: Path) -> None:
    context = RunContext(load_config("smoke"), ArtifactStore(tmp_path), NullTracker(), View())
    with pytest.raises(TypeError, match="not an artifact"):
        Run("name", "smoke", context, 0.0)(lambda context: type("Outcome", (), {"result": lambda self: 3})())


class _Clock:
    """A clock that stands still."""

    @staticmethod
    def now(zone: Any) -> Any:
        from datetime import datetime

        return datetime(2026, 1, 2, 3, 4, 5, tzinfo=zone)


@pytest.fixture
def stopped(monkeypatch: pytest.MonkeyPatch, store_root: Path) -> Path:
    """A store for runs that all start in the same second, are not tracked, and need no model."""
    monkeypatch.setattr(run_module, "datetime", _Clock)
    monkeypatch.setattr(run_module, "preflight", lambda config, root: ArtifactStore(root))
    monkeypatch.setattr(run_module.Tracker, "start", classmethod(lambda cls, *arguments: NullTracker()))
    return store_root


def test_runs_of_the_same_second_have_names_of_their_own(stopped: Path) -> None:
    with open_run("smoke", load_config("smoke")) as one, open_run("smoke", load_config("smoke")) as two:
        assert (one.name, two.name) == ("smoke-20260102-030405", "smoke-20260102-030405-1")


def test_a_summary_is_kept_and_a_failed_run_leaves_none(stopped: Path) -> None:
    rung = {"auc": 0.5, "uauc": None}
    summary = {"rungs": {"bias": rung}, "stages": {"data": {"status": "cached", "seconds": 0.1}}}
    with open_run("smoke", load_config("smoke")) as run:
        assert run.keep(summary) == summary
    with pytest.raises(ZeroDivisionError), open_run("smoke", load_config("smoke")):
        _ = 1 / 0
    (kept,) = (stopped / "runs").iterdir()
    assert json.loads(kept.read_text()) == summary


def test_preflight_refuses_more_reflections_than_wrong_predictions(tmp_path: Path) -> None:
    config = load_config("quickstart", {"wrong_predictions.rows": 3})
    with pytest.raises(ConfigError, match=r"min_accepted 16 exceeds wrong_predictions.rows 3"):
        preflight(config, tmp_path)


def test_preflight_looks_at_the_model_of_a_local_teacher_only(tmp_path: Path) -> None:
    local = load_config("smoke", {"teacher.model": "/no/such/teacher"})
    with pytest.raises(ModelError, match="/no/such/teacher"):
        preflight(local, tmp_path)
    remote = load_config("smoke", {"teacher.model": "/no/such/teacher", "teacher.base_url": "http://127.0.0.1:1/v1"})
    assert preflight(remote, tmp_path).root == tmp_path


def test_the_view_is_that_of_the_block_and_else_the_log() -> None:
    view = View()
    with showing(view):
        assert current_view() is view
    outside = current_view()
    assert isinstance(outside, LogView)
    outside.say("nobody listens outside of a run")


@task(name="expert_1", cache_policy=NO_CACHE)
def expert(context: RunContext) -> ArtifactRef | State[ArtifactRef]:
    return number.fn(context, 2)


def test_a_part_of_the_pipeline_ends_before_the_first_stage_behind_it(tmp_path: Path) -> None:
    context = RunContext(load_config("smoke"), ArtifactStore(tmp_path), NullTracker(), View())
    run = Run("name", "smoke", context, 0.0, "encoder")
    with pytest.raises(Enough):
        run(expert)
    assert context.results == {}
    belongs = {"keywords": "data", "warm_start": "wrong_predictions", "clusters_4": "clusters", "choice": "experts"}
    for stage, part in belongs.items():
        replace(run, until=part).go_on(stage)
    with pytest.raises(Enough):
        replace(run, until="clusters").go_on("choice")


def test_a_run_that_stands_still_or_fails_tells_the_webhook(
    stopped: Path, httpserver: HTTPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    httpserver.expect_request("/hook", method="POST").respond_with_data("")
    monkeypatch.setenv(VARIABLE, httpserver.url_for("/hook"))
    config = load_config("smoke", {"rerun.stuck_minutes": 0.001})

    def stand_still() -> None:
        with open_run("smoke", config) as run:
            run.context.view.say("training general")
            deadline = time.monotonic() + 10
            while not httpserver.log and time.monotonic() < deadline:
                time.sleep(0.02)
            raise ConfigError("no way on")

    with pytest.raises(ConfigError):
        stand_still()
    told = [request.json for request, _ in httpserver.log]
    assert (told[0]["event"], told[0]["doing"]) == ("stuck", "training general")
    assert (told[-1]["event"], told[-1]["error"]) == ("failed", "no way on")
    assert {each["run"] for each in told} == {"smoke-20260102-030405"}
