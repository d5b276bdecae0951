"""Stage `reflections`: the teacher explains the student's mistakes; one row per mistake, accepted or rejected."""

from __future__ import annotations

from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State

from storage.crash_points import reached
from storage.store import ArtifactRef, Draft
from storage.tracking import StageTracker
from tasks.stage import RunContext, run_stage
from tasks.teacher.again import asked_again
from tasks.teacher.calls import Calls
from tasks.teacher.cases import wrong_cases
from tasks.teacher.identity import Teacher, settings_of
from tasks.teacher.outcome import write_outcome
from thinkrec_core.errors import TeacherError

FIGURES = ("accepted", "rejected", "leaked", "prompt_tokens", "completion_tokens")
"""Of the summary, what MLflow shows as metrics."""


@task(name="reflections", cache_policy=NO_CACHE)
def distil_reflections(context: RunContext, wrong: ArtifactRef) -> ArtifactRef | State[ArtifactRef]:
    """The artifact with reflections.parquet, summary.json, telemetry/requests.jsonl and telemetry/reflections.parquet.

    Raises:
        TeacherError: the teacher does not answer, or fewer reflections than `reflections.min_accepted` were accepted.
    """
    config = context.config
    teacher = Teacher.of(config.teacher)

    def build(draft: Draft, tracker: StageTracker) -> None:
        from tasks.teacher.reflecting import reflect  # the client library: what the store holds needs none

        cases = wrong_cases(context.store.path(wrong))
        with Calls(draft.telemetry / "requests.jsonl", tracker) as calls:
            dialogues = reflect(context, teacher, cases, draft.scratch / "teacher.log", calls.observe)
        reached("reflections/held")
        summary = write_outcome(draft, cases, dialogues, teacher, calls, config.teacher.price)
        tracker.metrics({name: summary[name] for name in FIGURES})
        tracker.artifact(draft.path / "summary.json")
        if summary["accepted"] < config.reflections.min_accepted:
            raise TeacherError(
                f"{summary['accepted']} of {len(dialogues)} reflections were accepted ({_told(summary['reasons'])})",
                f"at least {config.reflections.min_accepted} (reflections.min_accepted)",
                "raise wrong_predictions.rows, or use a stronger teacher; answers so far are kept",
            )

    inputs: dict[str, ArtifactRef | str] = {"wrong": wrong}
    if teacher.model is not None:
        inputs["model"] = teacher.model.digest
    settings = {**settings_of(config, teacher), "min_accepted": config.reflections.min_accepted}

    def hold(again: dict[str, Any]) -> ArtifactRef | State[ArtifactRef]:
        return run_stage(context, "reflections", build, inputs=inputs, settings={**settings, **again})

    return asked_again(context, "reflections", hold)


def _told(reasons: dict[str, int]) -> str:
    return ", ".join(f"{count} {reason}" for reason, count in reasons.items()) or "none was rejected"
