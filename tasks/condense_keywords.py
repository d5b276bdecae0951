"""Stage `keywords`: a teacher condenses the descriptions of items to keywords; the data artifact with new item texts.

Only runs with `data.keywords: teacher` have it. Every answer lies in a journal under what was asked, so an item is paid for
once, whichever run or data set it occurs in.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State

from storage.journal import Entry, Journal, request_key
from storage.schemas import DESCRIPTIONS, ITEMS
from storage.store import ArtifactRef, Draft
from storage.tables import read_table, write_table
from storage.tracking import StageTracker
from tasks.stage import RunContext, run_stage
from tasks.teacher.endpoint import Endpoint, remote_endpoint
from tasks.teacher.failed import RequestFailed
from tasks.teacher.identity import OPERATIONAL, Teacher
from tasks.teacher.server import local_teacher
from thinkrec_core.config.reflections import JOURNAL, TeacherConfig
from thinkrec_core.errors import TeacherError, ThinkRecError
from thinkrec_core.items.keywords import needs_condensing, parse_keywords, question
from thinkrec_core.reflection.trace import Reply

if TYPE_CHECKING:
    from tasks.teacher.client import TeacherClient

MOST_FAILED = 0.01
"""Share of the items whose requests may fail; more of them stop the stage, and its answers are kept."""
SEED = 1
"""Of every request: the answer must not depend on the run."""


@dataclass(frozen=True)
class Asked:
    """An item to condense: its place in the table, and the conversation."""

    place: int
    messages: tuple[dict[str, str], ...]


@task(name="keywords", cache_policy=NO_CACHE)
def condense_keywords(context: RunContext, data: ArtifactRef) -> ArtifactRef | State[ArtifactRef]:
    """The artifact `data` with the keywords of a teacher in items.parquet, and keywords.json with the counts.

    An item whose answer holds no keywords, or whose request failed, keeps what its source says.

    Raises:
        TeacherError: the teacher does not answer, or does not for more than `MOST_FAILED` of the items.
    """
    config = context.config.teacher
    teacher = Teacher.of(config)

    def build(draft: Draft, tracker: StageTracker) -> None:
        folder = context.store.path(data)
        items = read_table(folder / "items.parquet", ITEMS)
        asked = _items_to_ask(items.to_pylist(), folder)
        answers = _Answers(config, Journal.of(context.store.root, f"{teacher.name}-keywords"), teacher.name)

        def waiting() -> None:
            context.view.say("  teacher            another run asks it; this one waits, and then uses its answers")

        with answers.journal.one_asker(waiting):
            missing = [item for item in asked if answers.kept(item) is None]
            failed: list[Asked] = []
            if missing and config.base_url != JOURNAL:
                with _endpoint(config, teacher, draft.scratch / "teacher.log") as endpoint:
                    failed = asyncio.run(_ask(context, endpoint, answers, missing))
        if len(failed) > MOST_FAILED * len(asked):
            raise TeacherError(
                f"{len(failed)} of {len(asked)} items got no answer",
                "nearly all of them",
                "run again; answers are kept",
            )
        keywords = items.column("keywords").to_pylist()
        condensed = 0
        for item in asked:
            words = parse_keywords(answers.kept(item) or "")
            condensed += bool(words)
            keywords[item.place] = ", ".join(words) or keywords[item.place]
        _link_all(folder, draft.path, but={"items.parquet"})
        columns = {name: items.column(name) for name in ITEMS.names}
        write_table(draft.path / "items.parquet", {**columns, "keywords": keywords}, ITEMS)
        counts = {"items": len(keywords), "asked": len(asked), "condensed": condensed, "kept": sum(map(bool, keywords))}
        (draft.path / "keywords.json").write_text(json.dumps({**counts, "model": teacher.name}, indent=1) + "\n")
        tracker.metrics(counts)
        context.view.say(f"  keywords           {condensed:,} of {len(asked):,} descriptions condensed")

    settings = {
        "model": teacher.name,
        "asked": config.base_url != JOURNAL,
        "teacher": config.model_dump(mode="json", exclude=OPERATIONAL | {"style"}),
    }
    return run_stage(context, "keywords", build, inputs={"data": data}, settings=settings)


def _items_to_ask(rows: list[dict[str, Any]], folder: Path) -> list[Asked]:
    path, known = folder / "descriptions.parquet", {}
    if path.is_file():  # a source without descriptions may have too many categories
        known = {row["item_idx"]: row["description"] for row in read_table(path, DESCRIPTIONS).to_pylist()}
    asked = []
    for place, row in enumerate(rows):
        description = known.get(row["item_idx"], "")
        if needs_condensing(row["keywords"], description):
            messages = question(row["title"], row["keywords"], description)
            asked.append(Asked(place, tuple({**message} for message in messages)))  # type: ignore[dict-item]
    return asked


class _Answers:
    """What the teacher said about items, by the journal: an empty answer is asked again with a larger budget."""

    def __init__(self, config: TeacherConfig, journal: Journal, model: str) -> None:
        self.journal = journal
        self._model, self._config = model, config
        step = max(config.max_tokens_step, 1)
        budgets = [*range(config.max_tokens, config.max_tokens_limit + 1, step)] if config.max_tokens_step else []
        self.budgets = budgets or [config.max_tokens]

    def parameters(self, item: Asked, budget: int) -> dict[str, Any]:
        """Of the API call, without the model."""
        return {
            "messages": list(item.messages),
            "max_tokens": budget,
            "temperature": self._config.temperature,
            "top_p": self._config.top_p,
            "seed": SEED,
        }

    def request(self, item: Asked, budget: int) -> dict[str, Any]:
        """What the journal keeps, and what its key hashes."""
        return {"model": self._model, "task": "keywords", **self.parameters(item, budget)}

    def kept(self, item: Asked) -> str | None:
        """The first answer that says something, the last one if none does; None while a request is left."""
        for budget in self.budgets:
            found = self.journal.get(request_key(self.request(item, budget)))
            if found is None:
                return None
            answer = Reply(**found["reply"]).answer
            if answer:
                return answer
        return ""


async def _ask(context: RunContext, endpoint: Endpoint, answers: _Answers, items: Sequence[Asked]) -> list[Asked]:
    """Ask about `items`; each answer is on the disk before it counts. Returns the items whose request failed."""
    from tasks.teacher.client import TeacherClient  # the client library: what the store holds needs none

    failed: list[Asked] = []

    def announce(target: Endpoint) -> None:
        context.view.say(f"  teacher            {target.host} (titles and descriptions are sent)")

    async def condense(client: TeacherClient, item: Asked, done: Callable[[], None]) -> None:
        try:
            for budget in answers.budgets:
                asked = answers.request(item, budget)
                if answers.journal.get(request_key(asked)) is None:
                    answer = await client.ask(**answers.parameters(item, budget))
                    answers.journal.append_all([Entry(request_key(asked), asdict(answer), asked)])
                if answers.kept(item) is not None:
                    break
        except RequestFailed:
            failed.append(item)
        done()

    finished = 0
    with context.view.progress("keywords", len(items)) as advance:

        def done() -> None:
            nonlocal finished
            finished += 1
            advance(completed=finished, note=f"failed {len(failed)}")

        try:
            async with (
                TeacherClient(endpoint, context.config.teacher, announce) as client,
                asyncio.TaskGroup() as group,
            ):
                for item in items:
                    group.create_task(condense(client, item, done))
        except* ThinkRecError as failures:
            raise _first(failures) from None
    return failed


def _first(group: BaseExceptionGroup[ThinkRecError]) -> BaseException:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _endpoint(config: TeacherConfig, teacher: Teacher, log: Path) -> contextlib.AbstractContextManager[Endpoint]:
    if teacher.model is None:
        return contextlib.nullcontext(remote_endpoint(config, os.environ))
    return local_teacher(config, teacher.model.path, log)


def _link_all(source: Path, target: Path, but: set[str]) -> None:
    """The tables of another artifact, as further names of the same files where the disk can: artifacts never change."""
    for path in sorted(source.iterdir()):
        if path.is_file() and path.name not in {*but, "manifest.json"}:
            try:
                os.link(path, target / path.name)
            except OSError:
                shutil.copyfile(path, target / path.name)
