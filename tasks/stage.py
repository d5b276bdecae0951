"""One stage of the pipeline: key, lock, cache hit or build, publish, log.

Prefect shows the stages; the artifact store decides whether one runs. A hit returns a Completed state named "Cached".
"""

from __future__ import annotations

import hashlib
import inspect
import json
import resource
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from threading import Event
from typing import Any, Literal

from prefect.client.schemas.objects import State
from prefect.states import Completed
from pydantic import BaseModel

from storage.code_digest import code_digest, library_versions
from storage.crash_points import reached
from storage.disk_faults import disk_faults
from storage.store import ArtifactRef, ArtifactStore, Draft
from storage.tracking import StageTracker, Tracker
from tasks.view import View
from thinkrec_core.config.root import ThinkRecConfig


@dataclass(frozen=True)
class StageResult:
    """What happened to one stage in this run."""

    status: Literal["ran", "cached"]
    seconds: float
    ref: ArtifactRef | None = None


@dataclass(frozen=True)
class RunContext:
    """What every task of a run shares."""

    config: ThinkRecConfig
    store: ArtifactStore
    tracker: Tracker
    view: View
    results: dict[str, StageResult] = field(default_factory=dict)
    stop: Event | None = None
    """Set when a stage that runs beside this one failed or the run was interrupted: long work ends at once."""
    sharers: int = 1
    """Stages that run at the same time on this machine and share its CPU threads."""


Build = Callable[[Draft, StageTracker], None]


def run_stage(
    context: RunContext,
    name: str,
    build: Build,
    *,
    inputs: Mapping[str, ArtifactRef | str],
    settings: Mapping[str, Any],
    parts: Mapping[str, str] | None = None,
    label: str = "",
) -> ArtifactRef | State[ArtifactRef]:
    """The artifact of stage `name`, from the store or built by `build(draft, tracker)`.

    Args:
        inputs: artifacts (by digest) or content hashes of outside files that the stage reads.
        settings: the config models and values that the stage uses, and nothing else: each becomes part of the key.
        parts: digests of what the stage reads of an input, by the name of the input, where that is not all of it: they take
            the place of the input's own digest in the key.
        label: what this run calls the artifact, where one stage makes several; else the stage's name.
    """
    module = inspect.getmodule(build)
    if module is None:
        raise TypeError(f"build of stage {name} must be a function of a module")
    identity: dict[str, Any] = {
        "stage": name,
        "inputs": {
            **{key: value if isinstance(value, str) else value.digest for key, value in inputs.items()},
            **(parts or {}),
        },
        "settings": {key: _plain(value) for key, value in settings.items()},
        "code": code_digest(module.__name__),
        "libraries": library_versions(module.__name__),
    }
    key = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:32]
    label = label or name
    start = time.monotonic()
    with context.store.locked(name, key):
        ref = context.store.find(name, key)
        if ref is not None:
            context.results[label] = StageResult("cached", time.monotonic() - start, ref)
            context.view.say(f"  {label:<18} cached")
            return Completed(name="Cached", data=ref)
        context.view.say(f"  {label:<18} running")
        draft = context.store.draft(name, key)
        try:
            with context.tracker.stage(label) as tracker, disk_faults(f"stage {name}", context.store.root):
                tracker.params(identity["settings"])
                reached(f"{name}/build.begin")
                build(draft, tracker)
                reached(f"{name}/build.end")
                seconds = time.monotonic() - start
                facts = {
                    **identity,
                    "parents": {k: v.model_dump() for k, v in inputs.items() if isinstance(v, ArtifactRef)},
                    "mlflow_run": tracker.run_id,
                    "seconds": round(seconds, 3),
                    "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
                }
                ref = context.store.publish(draft, name, key, facts)
        finally:
            context.store.discard(draft)
    context.results[label] = StageResult("ran", seconds, ref)
    context.view.say(f"  {label:<18} done in {seconds:.1f} s")
    return ref


def _plain(value: Any) -> Any:
    return value.model_dump(mode="json") if isinstance(value, BaseModel) else value
