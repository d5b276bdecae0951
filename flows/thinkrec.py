"""The pipeline, in the order of the method: who errs, why, and what a student learns from it.

data -> [drift] -> CF encoder -> [warm start] -> wrong predictions -> the teacher's reflections -> general adapter and projector
     -> user clusters -> one expert per cluster -> evaluation -> [promotion] -> report
"""

from __future__ import annotations

from typing import Any

from prefect import flow

from flows.champion import drift_of, promoted, standing, starting_point
from flows.config import load_config
from flows.data import prepared
from flows.run import Enough, Part, Run, open_run
from flows.summary import summarise
from flows.training import train
from tasks.evaluate import evaluate
from tasks.write_report import write_report


@flow(name="thinkrec", flow_run_name="{preset}", persist_result=False)
def thinkrec(
    preset: str = "quickstart",
    overrides: dict[str, Any] = {},  # noqa: B006 - never changed; the server's form shows it as the default
    snapshot: str | None = None,
    until: Part | None = None,
) -> dict[str, Any]:
    """The summary of a run, as `flows.summary.summarise` gives it; also kept as runs/<run>.json below the store.

    Args:
        preset: name of a preset.
        overrides: fields that replace those of the preset, nested or dotted: {"training.steps": 100}.
        snapshot: a data folder that takes the place of data.source, such as the newest export of a shop.
        until: the last stage that runs; the summary then tells of stages alone.

    Raises:
        ThinkRecError: a mistake of the user; finished stages are kept.
    """
    with open_run(preset, load_config(preset, overrides, snapshot), until=until) as run:
        try:
            return pipeline(run)
        except Enough:
            partial = {"run": run.name, "preset": preset, "until": until, "seconds": run.seconds}
            return run.keep({**partial, **run.stages(), "rungs": {}})


def pipeline(run: Run) -> dict[str, Any]:
    """All stages in their order; the summary."""
    data, at = prepared(run), standing(run)
    drift = drift_of(run, at, data)
    trained = train(run, data, starting_point(run, at, data))
    evaluation = run(evaluate, data, trained.encoder, trained.general, trained.clusters, trained.experts)
    outcome = promoted(run, at, trained, evaluation, drift)
    beside = {"drift": outcome.drift, "promotion": outcome.promotion}
    report = run(write_report, **vars(trained), evaluation=evaluation, **beside)
    return run.keep(summarise(run, trained, evaluation, report) | {"promotion": outcome.told})
