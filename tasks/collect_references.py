"""Stage `reference_traces`: what the teacher says about held-out rows, knowing what the user did.

The traces are the references that metrics of explanations compare with. They are made with the gold label of rows that
a figure will be reported on, so they are kept apart from the reflections, and no training accepts them.
"""

from __future__ import annotations

from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State

from storage.store import ArtifactRef, Draft
from storage.tracking import StageTracker
from tasks.distil_reflections import FIGURES
from tasks.stage import RunContext, run_stage
from tasks.teacher.again import asked_again
from tasks.teacher.calls import Calls
from tasks.teacher.cases import HeldOut, reference_cases
from tasks.teacher.identity import Teacher, settings_of
from tasks.teacher.outcome import write_outcome


@task(name="reference_traces", cache_policy=NO_CACHE)
def collect_references(
    context: RunContext, data: ArtifactRef, split: HeldOut, rows: int
) -> ArtifactRef | State[ArtifactRef]:
    """The artifact with reference_traces.parquet, summary.json, telemetry/requests.jsonl and
    telemetry/reference_traces.parquet.

    Args:
        split: where the rows are from.
        rows: size of the seeded sample; all rows of a smaller split.

    Raises:
        DataError: the split has no rows.
        TeacherError: the teacher does not answer.
    """
    config = context.config
    teacher = Teacher.of(config.teacher)

    def build(draft: Draft, tracker: StageTracker) -> None:
        from tasks.teacher.reflecting import reflect  # the client library: what the store holds needs none

        cases = reference_cases(context.store.path(data), split, rows, config.llm.max_history, config.seed)
        with Calls(draft.telemetry / "requests.jsonl", tracker) as calls:
            dialogues = reflect(context, teacher, cases, draft.scratch / "teacher.log", calls.observe)
        summary = write_outcome(draft, cases, dialogues, teacher, calls, config.teacher.price)
        tracker.metrics({name: summary[name] for name in FIGURES})
        tracker.artifact(draft.path / "summary.json")

    inputs: dict[str, ArtifactRef | str] = {"data": data}
    if teacher.model is not None:
        inputs["model"] = teacher.model.digest
    own = {"split": split, "rows": rows, "max_history": config.llm.max_history}
    settings = {**settings_of(config, teacher), **own}

    def hold(again: dict[str, Any]) -> ArtifactRef | State[ArtifactRef]:
        return run_stage(context, "reference_traces", build, inputs=inputs, settings={**settings, **again})

    return asked_again(context, "reference_traces", hold)
