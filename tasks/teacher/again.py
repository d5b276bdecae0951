"""Rows whose requests failed on their way are asked again by the next run, though their table was published."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

from prefect.client.schemas.objects import State

from storage.store import ArtifactRef
from tasks.stage import RunContext
from thinkrec_core.errors import TeacherError

Found = ArtifactRef | State[ArtifactRef]


def asked_again(context: RunContext, stage: str, hold: Callable[[dict[str, Any]], Found]) -> Found:
    """The newest artifact of `stage`: the one in the store, or where that has failed rows, one that asked for them again.

    An artifact never changes, so each such try is one of its own. A teacher that cannot be asked now leaves the one before.

    Args:
        hold: runs the stage; its argument goes into the settings.

    Raises:
        TeacherError: the first try did.
    """
    found: Found | None = None
    for retry in itertools.count():
        try:
            found = hold({"retry": retry} if retry else {})
        except TeacherError as error:
            if found is None:
                raise
            context.view.say(f"  {stage:<18} kept as it was: {error}")
            return found
        result = context.results[stage]
        failed = context.store.manifest(result.ref).get("failed", 0) if result.ref and result.status == "cached" else 0
        if not failed:
            break
        context.view.say(f"  {stage:<18} {failed} rows failed on their way; they are asked again")
    assert found is not None
    return found
