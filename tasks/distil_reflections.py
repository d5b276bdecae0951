"""Stage `reflections`: the teacher explains the student's mistakes; one row per mistake, accepted or rejected."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State

from storage.journal import Journal
from storage.models import resolve_model
from storage.schemas import REFLECTIONS, WRONG
from storage.store import ArtifactRef, Draft
from storage.tables import read_table, write_table
from storage.tracking import StageTracker
from tasks.stage import RunContext, run_stage
from tasks.teacher.client import TeacherClient
from tasks.teacher.conversations import Asking, Call, converse, replay
from tasks.teacher.endpoint import Endpoint, remote_endpoint
from tasks.teacher.server import local_teacher
from thinkrec_core.errors import TeacherError
from thinkrec_core.reflection.dialogue import Dialogue, Rules
from thinkrec_core.reflection.prompts import PROMPT_VERSION, Case
from thinkrec_core.seeds import generator

LOCAL_NOTE = (
    "The teacher is the small local model, not a reasoning model such as QwQ-32B: its reflections show the mechanism, "
    "not the quality of the method."
)
OPERATIONAL = {
    "api_key_env",
    "attempts",
    "concurrency",
    "port",
    "requests_per_minute",
    "startup_seconds",
    "timeout_seconds",
}
"""Fields of `teacher` that change how answers come, not which."""


@task(name="reflections", cache_policy=NO_CACHE)
def distil_reflections(context: RunContext, wrong: ArtifactRef) -> ArtifactRef | State[ArtifactRef]:
    """The artifact with reflections.parquet, summary.json and telemetry/requests.jsonl.

    Raises:
        TeacherError: the teacher does not answer, or fewer reflections than `reflections.min_accepted` were accepted.
    """
    config = context.config
    local = config.teacher.base_url == "local"
    model = resolve_model(config.teacher.model) if local else None

    def build(draft: Draft, tracker: StageTracker) -> None:
        table = read_table(context.store.path(wrong) / "wrong.parquet", WRONG)
        cases, rows = _cases(table.to_pylist()), table.column("row").to_pylist()
        name = f"{config.teacher.model}@{model.digest[:16]}" if model else config.teacher.model
        asking = Asking(config.teacher, name, config.seed)
        calls = _Calls(draft.telemetry / "requests.jsonl", tracker)
        journal = Journal.of(context.store.root, name)
        rules = Rules.of(config.teacher, config.reflections)
        with journal.one_asker():
            dialogues = [
                replay(
                    Dialogue.start(case, rules, generator(config.seed, "hints", row)),
                    row,
                    asking,
                    journal,
                    calls.observe,
                )
                for case, row in zip(cases, rows, strict=True)
            ]
            unfinished = [index for index, dialogue in enumerate(dialogues) if dialogue.status == "open"]
            if unfinished:
                endpoint = _endpoint(context, model.path if model else None, draft.scratch / "teacher.log")
                with endpoint as teacher, _progress(context, dialogues) as finished:
                    held = asyncio.run(
                        _hold(context, teacher, dialogues, rows, unfinished, asking, journal, calls.observe, finished)
                    )
                for index, dialogue in zip(unfinished, held, strict=True):
                    dialogues[index] = dialogue
        summary = _write(draft.path, rows, dialogues, name, local)
        draft.manifest["rows"] = len(rows)
        tracker.metrics(
            {key: summary[key] for key in ("accepted", "rejected", "leaked", "prompt_tokens", "completion_tokens")}
        )
        tracker.artifact(draft.path / "summary.json")
        if summary["accepted"] < config.reflections.min_accepted:
            raise TeacherError(
                f"{summary['accepted']} of {len(rows)} reflections were accepted ({_told(summary['reasons'])})",
                f"at least {config.reflections.min_accepted} (reflections.min_accepted)",
                "raise wrong_predictions.rows, or use a stronger teacher; answers so far are kept",
            )

    inputs: dict[str, ArtifactRef | str] = {"wrong": wrong}
    if model is not None:
        inputs["model"] = model.digest
    settings: dict[str, Any] = {
        "seed": config.seed,
        "teacher": config.teacher.model_dump(mode="json", exclude=OPERATIONAL),
        "reflections": config.reflections.model_dump(mode="json", exclude={"max_trace_tokens"}),
    }
    return run_stage(context, "reflections", build, inputs=inputs, settings=settings)


async def _hold(
    context: RunContext,
    endpoint: Endpoint,
    dialogues: list[Dialogue],
    rows: list[int],
    unfinished: list[int],
    asking: Asking,
    journal: Journal,
    observe: Callable[[Call], None],
    finished: Callable[[Dialogue], None],
) -> list[Dialogue]:
    def announce(target: Endpoint) -> None:
        context.view.say(f"  teacher            {target.host} (titles and labels are sent, no user ids)")

    async with TeacherClient(endpoint, context.config.teacher, announce) as client:
        return await converse(
            [dialogues[index] for index in unfinished],
            [rows[index] for index in unfinished],
            client,
            asking,
            journal,
            observe,
            finished,
        )


def _endpoint(context: RunContext, model: Path | None, log: Path) -> contextlib.AbstractContextManager[Endpoint]:
    if model is None:
        return contextlib.nullcontext(remote_endpoint(context.config.teacher, os.environ))
    return local_teacher(context.config.teacher, model, log)


@contextlib.contextmanager
def _progress(context: RunContext, dialogues: list[Dialogue]) -> Iterator[Callable[[Dialogue], None]]:
    counts = Counter(dialogue.status for dialogue in dialogues)
    with context.view.progress("reflections", len(dialogues)) as advance:

        def finished(dialogue: Dialogue) -> None:
            counts[dialogue.status] += 1
            done = counts["accepted"] + counts["rejected"]
            advance(completed=done, note=f"accepted {counts['accepted']}, rejected {counts['rejected']}")

        yield finished


class _Calls:
    """Writes every call to the telemetry file and hands it to MLflow."""

    def __init__(self, path: Path, tracker: StageTracker) -> None:
        self._path, self._tracker = path, tracker

    def observe(self, call: Call) -> None:
        record = asdict(call)
        with self._path.open("a") as handle:
            handle.write(json.dumps(record) + "\n")
        if not call.reused:
            self._tracker.teacher_trace(record)


def _cases(wrong: list[dict[str, Any]]) -> list[Case]:
    return [
        Case(
            label=row["label"],
            title=row["title"],
            keywords=row["keywords"],
            history=tuple(zip(row["history_titles"], row["history_label"], strict=True)),
        )
        for row in wrong
    ]


def _write(folder: Path, rows: list[int], dialogues: list[Dialogue], model: str, local: bool) -> dict[str, Any]:
    accepted = [dialogue.status == "accepted" for dialogue in dialogues]
    write_table(
        folder / "reflections.parquet",
        {
            "row": rows,
            "label": [dialogue.case.label for dialogue in dialogues],
            "verdict": [dialogue.verdict for dialogue in dialogues],
            "trace": [dialogue.trace for dialogue in dialogues],
            "answer": [dialogue.answer for dialogue in dialogues],
            "rounds": [dialogue.rounds for dialogue in dialogues],
            "hint_ids": [list(dialogue.hint_ids) for dialogue in dialogues],
            "prompt_tokens": [dialogue.prompt_tokens for dialogue in dialogues],
            "completion_tokens": [dialogue.completion_tokens for dialogue in dialogues],
            "model": [model] * len(dialogues),
            "prompt_version": [PROMPT_VERSION] * len(dialogues),
            "accepted": accepted,
            "reason": [dialogue.reason for dialogue in dialogues],
        },
        REFLECTIONS,
    )
    summary: dict[str, Any] = {
        "accepted": sum(accepted),
        "rejected": len(accepted) - sum(accepted),
        "reasons": dict(sorted(Counter(d.reason.split(":")[0] for d in dialogues if d.reason).items())),
        "rounds": {str(key): count for key, count in sorted(Counter(d.rounds for d in dialogues).items())},
        "prompt_tokens": sum(dialogue.prompt_tokens for dialogue in dialogues),
        "completion_tokens": sum(dialogue.completion_tokens for dialogue in dialogues),
        "leaked": sum(dialogue.leaked for dialogue in dialogues),
        "model": model,
        "note": LOCAL_NOTE if local else "",
    }
    (folder / "summary.json").write_text(json.dumps(summary, indent=1, sort_keys=True) + "\n")
    return summary


def _told(reasons: dict[str, int]) -> str:
    return ", ".join(f"{count} {reason}" for reason, count in reasons.items()) or "none was rejected"
