"""One run of the pipeline: its name, its place in the store and in MLflow, and how a stage is called in it."""

from __future__ import annotations

import contextlib
import json
import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, cast, get_args

from flows.notify import notify
from flows.pages import run_page, stage_page
from flows.preflight import preflight
from flows.views import current_view
from storage.catalog import write_catalog
from storage.crash_points import reached
from storage.disk_faults import disk_faults
from storage.durable import write_whole
from storage.home import runs_folder, store_root
from storage.store import ArtifactRef, ArtifactStore
from storage.tracking import Tracker
from tasks.stage import RunContext
from tasks.watch import WatchedView, watching
from thinkrec_core.config.root import ThinkRecConfig
from thinkrec_core.errors import one_line

logger = logging.getLogger(__name__)

Part = Literal[
    "data", "encoder", "wrong_predictions", "reflections", "general", "clusters", "experts", "evaluation", "report"
]
PARTS: tuple[Part, ...] = get_args(Part)
"""The stages of the pipeline in their order; what prepares one belongs to it."""
_BELONGS: dict[str, Part] = {
    "keywords": "data",
    "warm_start": "wrong_predictions",
    "clusters": "clusters",
    "expert": "experts",
    "choice": "experts",
    "champion": "data",
    "drift": "data",
    "start": "encoder",
    "prior": "encoder",
    "candidate": "evaluation",
    "promotion": "evaluation",
}


class Enough(Exception):
    """The run has come to the end of the part that was asked for."""


@dataclass(frozen=True)
class Run:
    """An open run. Calling it runs a stage: `run(train_encoder, data)` is the artifact of that task."""

    name: str
    preset: str
    context: RunContext
    started: float
    until: Part | None = None
    """The last part that runs; None runs all."""

    def __call__(self, stage: Callable[..., Any], *inputs: Any, **named: Any) -> ArtifactRef:
        """The artifact of the task `stage`; a cache hit comes as the state that Prefect shows, and is read out of it.

        Raises:
            Enough: `stage` lies behind the part that was asked for.
        """
        name: str = getattr(stage, "name", "")
        self.go_on(name)
        outcome = stage(self.context, *inputs, **named)
        ref = outcome if isinstance(outcome, ArtifactRef) else outcome.result()
        if not isinstance(ref, ArtifactRef):
            raise TypeError(f"stage {stage} gave {type(ref).__name__}, not an artifact")
        results = self.context.results
        name = name if name in results else ref.stage  # a task may run under a name of its own
        if (done := results.get(name)) is not None:
            stage_page(name, done.status, done.seconds, self.context.store.manifest(ref))
        return ref

    def go_on(self, stage: str) -> None:
        """Return if `stage` belongs to what was asked for.

        Raises:
            Enough: it lies behind that.
        """
        if self.until is not None and PARTS.index(_part_of(stage)) > PARTS.index(self.until):
            raise Enough

    @property
    def seconds(self) -> float:
        """Seconds since the run was opened."""
        return round(time.monotonic() - self.started, 3)

    def stages(self) -> dict[str, Any]:
        """What a summary says about its stages: stages {name: {status, seconds}}, all_cached, artifacts {name: its reference}."""
        results = self.context.results
        return {
            "stages": {
                name: {"status": each.status, "seconds": round(each.seconds, 3)} for name, each in results.items()
            },
            "all_cached": all(each.status == "cached" for each in results.values()),
            "artifacts": {name: each.ref.model_dump() for name, each in results.items() if each.ref},
        }

    def keep(self, summary: dict[str, Any]) -> dict[str, Any]:
        """`summary`, after it was written to runs/<name>.json in one piece and its figures were logged."""
        target = _run_file(self.context.store.root, self.name)
        reached("run/computed")
        write_whole(target, json.dumps(summary, indent=1) + "\n")
        reached("run/kept")
        tracker = self.context.tracker
        for name, rung in summary.get("rungs", {}).items():
            tracker.metrics({f"{name}/{figure}": rung[figure] for figure in ("auc", "uauc")})
        cached = sorted(name for name, stage in summary["stages"].items() if stage["status"] == "cached")
        tracker.tags({"thinkrec.cached": ", ".join(cached) or "none", "thinkrec.summary": str(target)})
        tracker.artifact(target)
        run_page(self.name, self.preset, summary)
        notify("finished", run=self.name, preset=self.preset, seconds=self.seconds, report=summary.get("report", ""))
        write_catalog(self.context.store.root)
        reached("run/catalogued")
        return summary


@contextlib.contextmanager
def open_run(
    preset: str,
    config: ThinkRecConfig,
    check: Callable[[ThinkRecConfig, Path], ArtifactStore] = preflight,
    until: Part | None = None,
) -> Iterator[Run]:
    """A run of `config` in the store of this process, tracked until the block ends.

    Args:
        check: opens the store after checks of what this kind of run needs.
        until: the last part that runs.

    Raises:
        ThinkRecError: what `check` found.
    """
    root = store_root()
    store = check(config, root)
    with disk_faults(f"a run of {preset}", root):
        name = _new_name(root, preset)
    tracker = Tracker.start(root, name, config.model_dump(mode="json"))
    status = "KILLED"
    try:
        view, limit = WatchedView(current_view()), 60 * config.rerun.stuck_minutes

        def stuck(idle: float, doing: str) -> None:
            logger.warning("run %s has made no progress for %.0f s: %s", name, idle, doing)
            notify("stuck", run=name, preset=preset, seconds=round(idle), doing=doing)

        with disk_faults(f"run {name}", root), store.in_use(), watching(view, limit, stuck):
            yield Run(name, preset, RunContext(config, store, tracker, view), time.monotonic(), until)
        status = "FINISHED"
    except Exception as error:
        status = "FAILED"
        notify("failed", run=name, preset=preset, error=one_line(str(error)))
        raise
    finally:
        tracker.finish(status)
        with contextlib.suppress(OSError):
            if status != "FINISHED":
                _run_file(root, name).unlink()


def _new_name(root: Path, preset: str) -> str:
    """A name that no other run has: preset and time, and a number where two runs start in the same second."""
    runs_folder(root).mkdir(parents=True, exist_ok=True)
    base = f"{preset}-{datetime.now(UTC):%Y%m%d-%H%M%S}"
    for number in range(1000):
        name = f"{base}-{number}" if number else base
        with contextlib.suppress(FileExistsError):
            _run_file(root, name).touch(exist_ok=False)
            return name
    raise RuntimeError(f"a thousand runs were started at {base}")


def _part_of(stage: str) -> Part:
    kind = stage.partition("_")[0]
    return _BELONGS.get(stage) or _BELONGS.get(kind) or cast(Part, stage)


def _run_file(root: Path, name: str) -> Path:
    return runs_folder(root) / f"{name}.json"
