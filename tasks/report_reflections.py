"""Stage `reflections_report`: one HTML page about what the teacher did."""

from __future__ import annotations

import json
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State

from storage.store import ArtifactRef, Draft
from storage.tracking import StageTracker
from tasks.sample_traces import sample_traces
from tasks.stage import RunContext, run_stage
from thinkrec_core.report.reflections import PAGE, PARTS, render_reflections
from thinkrec_core.report.templates import template_digest


@task(name="reflections_report", cache_policy=NO_CACHE)
def report_reflections(context: RunContext, reflections: ArtifactRef) -> ArtifactRef | State[ArtifactRef]:
    """The artifact with reflections.html.

    Args:
        reflections: of the stage `reflections` or `reference_traces`.
    """
    teacher = context.config.teacher

    def build(draft: Draft, tracker: StageTracker) -> None:
        folder = context.store.path(reflections)
        summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
        target = draft.path / "reflections.html"
        target.write_text(render_reflections(summary, sample_traces(folder), teacher), encoding="utf-8")
        tracker.artifact(target)

    settings: dict[str, Any] = {
        "model": teacher.model,
        "price": None if teacher.price is None else teacher.price.model_dump(mode="json"),
        "template": template_digest(PAGE, *PARTS),
    }
    return run_stage(context, "reflections_report", build, inputs={"reflections": reflections}, settings=settings)
