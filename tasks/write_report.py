"""Stage `report`: one self-contained HTML page about the run.

Stage seconds differ between equal runs, so the page leaves them to the terminal and to the manifests: equal runs write
equal reports, and a report is found again in the store.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State

from storage.crash_points import reached
from storage.rec_data import trained_clusters
from storage.store import ArtifactRef, Draft
from storage.tracking import StageTracker
from tasks.sample_traces import sample_traces
from tasks.stage import RunContext, run_stage
from thinkrec_core.errors import StoreError
from thinkrec_core.report.render import PARTS, TEMPLATE, render_report
from thinkrec_core.report.templates import template_digest
from thinkrec_core.report.values import ReportValues, Training


@task(name="report", cache_policy=NO_CACHE)
def write_report(
    context: RunContext,
    *,
    data: ArtifactRef,
    encoder: ArtifactRef,
    wrong: ArtifactRef,
    reflections: ArtifactRef,
    general: ArtifactRef,
    clusters: ArtifactRef,
    experts: tuple[ArtifactRef, ...],
    evaluation: ArtifactRef,
    choice: ArtifactRef | None = None,
    start: ArtifactRef | None = None,
    drift: ArtifactRef | None = None,
    promotion: ArtifactRef | None = None,
) -> ArtifactRef | State[ArtifactRef]:
    """The artifact with report.html.

    Args:
        experts: the trained experts, in the order of their clusters; empty where there are none. An expert is named by
            the number of its cluster.
        choice: how the number of experts was chosen, where it was.
        start: the champion's weights that training started from.
        drift: the champion on the new window.
        promotion: what was decided about the run's model.
    """
    optional = {"choice": choice, "start": start, "drift": drift, "promotion": promotion}
    named = dict(zip(trained_clusters(context.store.path(clusters)), experts, strict=True)) if experts else {}

    def build(draft: Draft, tracker: StageTracker) -> None:
        path = context.store.path
        values = ReportValues(
            config=context.config.model_dump(mode="json"),
            evaluation=_read(path(evaluation) / "rungs.json"),
            data=_statistics(path(data)),
            encoder=_read_if(path(encoder) / "metrics.json", {}),
            wrong=_read_if(path(wrong) / "summary.json", {}),
            reflections=_read_if(path(reflections) / "summary.json", {}),
            traces=sample_traces(path(reflections)),
            general=_training("general", path(general)),
            experts=[_training(f"expert {number}", path(ref)) for number, ref in named.items()],
            clusters={
                **_read_if(path(clusters) / "clusters.json", {}),
                **_read_if(path(evaluation) / "routing.json", {}),
            },
            choice=_read(path(choice) / "choice.json") if choice else {},
            drift=_read(path(drift) / "drift.json") if drift else {},
            promotion=_read(path(promotion) / "promotion.json") if promotion else {},
            warm=start is not None,
            expert_figures=_read_if(path(evaluation) / "experts.json", {}),
            explanations=_read_if(path(evaluation) / "explanations.json", []),
        )
        reached("report/gathered")
        target = draft.path / "report.html"
        target.write_text(render_report(values), encoding="utf-8")
        tracker.artifact(target)

    return run_stage(
        context,
        "report",
        build,
        inputs={
            "data": data,
            "encoder": encoder,
            "wrong": wrong,
            "reflections": reflections,
            "general": general,
            "clusters": clusters,
            "evaluation": evaluation,
            **{f"expert_{number}": ref for number, ref in named.items()},
            **{name: ref for name, ref in optional.items() if ref},
        },
        settings={"config": context.config, "template": template_digest(TEMPLATE, *PARTS)},
    )


def _statistics(data: Path) -> dict[str, Any]:
    """Statistics of the data, and under `condensed` what the stage `keywords` did, where a run has it."""
    found, condensed = (_read_if(data / name, {}) for name in ("statistics.json", "keywords.json"))
    return {**found, "condensed": condensed} if condensed else dict(found)


def _training(name: str, folder: Path) -> Training:
    lines = folder / "losses.jsonl"
    text = lines.read_text(encoding="utf-8") if lines.is_file() else ""
    records = [json.loads(line) for line in text.splitlines() if line.strip()]
    return Training(name, _read_if(folder / "training.json", {}), records)


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError) as error:
        raise StoreError(f"{path} cannot be read ({error})", next_step="rebuild the stage that wrote it") from None


def _read_if(path: Path, default: Any) -> Any:
    return _read(path) if path.is_file() else default
