"""From cases to finished dialogues: what the journal holds is replayed, and the teacher is asked for the rest."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from storage.journal import Journal
from storage.models import ResolvedModel, resolve_model
from tasks.stage import RunContext
from tasks.teacher.cases import Cases
from tasks.teacher.client import TeacherClient
from tasks.teacher.conversations import Asking, Call, Observer, converse, replay
from tasks.teacher.endpoint import Endpoint, remote_endpoint
from tasks.teacher.progress import Progress, showing_progress
from tasks.teacher.server import local_teacher
from thinkrec_core.config.reflections import JOURNAL, LOCAL, TeacherConfig
from thinkrec_core.config.root import ThinkRecConfig
from thinkrec_core.reflection.dialogue import Dialogue, Rules

NOT_KEPT = "no answer in the journal"
OPERATIONAL = {
    "api_key_env",
    "attempts",
    "base_url",
    "concurrency",
    "model",
    "port",
    "requests_per_minute",
    "startup_seconds",
    "timeout_seconds",
}
"""Fields of `teacher` that change how answers come, not which; of the model, its name in the journal counts."""


@dataclass(frozen=True)
class Teacher:
    """Who answers: the name in the journal, and the model that a local server would load."""

    name: str
    model: ResolvedModel | None

    @classmethod
    def of(cls, config: TeacherConfig) -> Teacher:
        """The teacher that `config` names; the name of a local one holds the digest of its weights."""
        if config.base_url != LOCAL:
            return cls(config.model, None)
        model = resolve_model(config.model)
        return cls(f"{config.model}@{model.digest[:16]}", model)


def settings_of(config: ThinkRecConfig, teacher: Teacher) -> dict[str, Any]:
    """What of the configuration decides about the dialogues: the settings of a stage that holds some."""
    return {
        "seed": config.seed,
        "model": teacher.name,
        "asked": config.teacher.base_url != JOURNAL,
        "teacher": config.teacher.model_dump(mode="json", exclude=OPERATIONAL),
        "reflections": config.reflections.model_dump(mode="json", exclude={"max_trace_tokens", "min_accepted"}),
    }


def replay_all(
    config: ThinkRecConfig, teacher: Teacher, cases: Cases, journal: Journal, observe: Observer
) -> list[Dialogue]:
    """The dialogues about `cases` as far as the journal carries them; nothing is asked."""
    rules, asking = Rules.of(config.teacher, config.reflections), Asking(config.teacher, teacher.name, config.seed)
    started = [Dialogue.start(case, rules, cases.hints(config.seed, i)) for i, case in enumerate(cases.cases)]
    return [replay(dialogue, row, asking, journal, observe) for dialogue, row in zip(started, cases.rows, strict=True)]


def reflect(context: RunContext, teacher: Teacher, cases: Cases, log: Path, observe: Observer) -> list[Dialogue]:
    """The finished dialogues about `cases`, in their order.

    Under `teacher.base_url: journal` nobody is asked: a dialogue that the journal does not finish is rejected.

    Args:
        log: output of the local server.
        observe: told of every call.

    Raises:
        TeacherError: the teacher does not answer.
        StoreError: the journal cannot be written.
    """
    config = context.config.teacher
    journal = Journal.of(context.store.root, teacher.name)
    with journal.one_asker():
        dialogues = replay_all(context.config, teacher, cases, journal, observe)
        open_ones = [index for index, dialogue in enumerate(dialogues) if dialogue.status == "open"]
        if config.base_url == JOURNAL:
            held = [dialogues[index].fail(NOT_KEPT) for index in open_ones]
        elif open_ones:
            with (
                _endpoint(config, teacher, log) as endpoint,
                showing_progress(context.view, config, dialogues) as shown,
            ):
                held = asyncio.run(
                    _hold(
                        context,
                        endpoint,
                        [dialogues[index] for index in open_ones],
                        [cases.rows[index] for index in open_ones],
                        Asking(config, teacher.name, context.config.seed),
                        journal,
                        _both(observe, shown),
                        shown,
                    )
                )
        else:
            held = []
    for index, dialogue in zip(open_ones, held, strict=True):
        dialogues[index] = dialogue
    return dialogues


async def _hold(
    context: RunContext,
    endpoint: Endpoint,
    dialogues: list[Dialogue],
    rows: list[int],
    asking: Asking,
    journal: Journal,
    observe: Observer,
    shown: Progress,
) -> list[Dialogue]:
    def announce(target: Endpoint) -> None:
        context.view.say(f"  teacher            {target.host} (titles and labels are sent, no user ids)")

    async with TeacherClient(endpoint, context.config.teacher, announce) as client:
        return await converse(dialogues, rows, client, asking, journal, observe, shown.finished)


def _endpoint(config: TeacherConfig, teacher: Teacher, log: Path) -> contextlib.AbstractContextManager[Endpoint]:
    if teacher.model is None:
        return contextlib.nullcontext(remote_endpoint(config, os.environ))
    return local_teacher(config, teacher.model.path, log)


def _both(observe: Observer, shown: Progress) -> Callable[[Call], None]:
    def told(call: Call) -> None:
        observe(call)
        shown.called(call)

    return told
