"""From cases to finished dialogues: what the journal holds is replayed, and the teacher is asked for the rest."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable
from pathlib import Path

from storage.crash_points import reached
from storage.journal import Journal
from tasks.stage import RunContext
from tasks.teacher.cases import Cases
from tasks.teacher.client import TeacherClient
from tasks.teacher.conversations import Asking, Call, Observer, converse, replay
from tasks.teacher.endpoint import Endpoint, remote_endpoint
from tasks.teacher.identity import Teacher
from tasks.teacher.progress import Progress, showing_progress
from tasks.teacher.server import local_teacher
from tasks.teacher.stopping import SECONDS_TO_FINISH, Stopping
from thinkrec_core.config.reflections import JOURNAL, TeacherConfig
from thinkrec_core.config.root import ThinkRecConfig
from thinkrec_core.errors import TeacherError
from thinkrec_core.reflection.dialogue import Dialogue, Rules

NOT_KEPT = "no answer in the journal"
KEPT = "answers so far are kept: run the same command again to go on"


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
        TeacherError: the teacher does not answer, more dialogues than `reflections.max_failed_share` failed, or a limit of
            the run was met.
        StoreError: the journal cannot be written.
        KeyboardInterrupt: somebody pressed Ctrl-C; what was in flight is kept.
    """
    config = context.config.teacher
    journal = Journal.of(context.store.root, teacher.name)

    def waiting() -> None:
        context.view.say("  teacher            another run asks it; this one waits, and then uses its answers")

    with journal.one_asker(waiting):
        dialogues = replay_all(context.config, teacher, cases, journal, observe)
        reached("reflections/replayed")
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
                        len(dialogues),
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
    total: int,
) -> list[Dialogue]:
    config, stopping = context.config.teacher, Stopping()

    def announce(target: Endpoint) -> None:
        context.view.say(f"  teacher            {target.host} (titles and labels are sent, no user ids)")

    def interrupted() -> None:
        wait = f"up to {SECONDS_TO_FINISH:g} s for answers in flight (Ctrl-C again cuts them)"
        context.view.say(f"  teacher            stopping, {wait}; {KEPT}")

    finished = _bounded(context, total, shown.finished)
    if config.run_seconds is not None:
        late = TeacherError(f"teacher.run_seconds {config.run_seconds:g} are over", next_step=KEPT)
        asyncio.get_running_loop().call_later(config.run_seconds, stopping, late)
    with stopping.on_interrupt(interrupted):
        async with TeacherClient(endpoint, config, announce) as client:
            return await converse(dialogues, rows, client, asking, journal, observe, finished, stopping)


def _bounded(context: RunContext, total: int, shown: Callable[[Dialogue], None]) -> Callable[[Dialogue], None]:
    """`shown`, which then raises where more of `total` dialogues failed than may."""
    share, failed = context.config.reflections.max_failed_share, 0

    def finished(dialogue: Dialogue) -> None:
        nonlocal failed
        shown(dialogue)
        failed += dialogue.failed
        if dialogue.failed and failed > share * total:
            raise TeacherError(
                f"{failed} of {total} rows failed (the last: {dialogue.reason})",
                f"at most {share:.0%} (reflections.max_failed_share)",
                KEPT,
            )

    return finished


def _endpoint(config: TeacherConfig, teacher: Teacher, log: Path) -> contextlib.AbstractContextManager[Endpoint]:
    if teacher.model is None:
        return contextlib.nullcontext(remote_endpoint(config, os.environ))
    return local_teacher(config, teacher.model.path, log)


def _both(observe: Observer, shown: Progress) -> Callable[[Call], None]:
    def told(call: Call) -> None:
        observe(call)
        shown.called(call)

    return told
