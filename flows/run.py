"""One run of the pipeline: its name, its place in the store and in MLflow, and how a stage is called in it."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from flows.preflight import preflight
from flows.views import current_view
from storage.catalog import write_catalog
from storage.crash_points import reached
from storage.durable import write_whole
from storage.home import runs_folder, store_root
from storage.store import ArtifactRef, ArtifactStore
from storage.tracking import Tracker
from tasks.stage import RunContext
from thinkrec_core.config.root import ThinkRecConfig


@dataclass(frozen=True)
class Run:
    """An open run. Calling it runs a stage: `run(train_encoder, data)` is the artifact of that task."""

    name: str
    preset: str
    context: RunContext
    started: float

    def __call__(self, stage: Callable[..., Any], *inputs: Any, **named: Any) -> ArtifactRef:
        """The artifact of the task `stage`; a cache hit comes as the state that Prefect shows, and is read out of it."""
        outcome = stage(self.context, *inputs, **named)
        ref = outcome if isinstance(outcome, ArtifactRef) else outcome.result()
        if not isinstance(ref, ArtifactRef):
            raise TypeError(f"stage {stage} gave {type(ref).__name__}, not an artifact")
        return ref

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
        write_catalog(self.context.store.root)
        reached("run/catalogued")
        return summary


@contextlib.contextmanager
def open_run(
    preset: str, config: ThinkRecConfig, check: Callable[[ThinkRecConfig, Path], ArtifactStore] = preflight
) -> Iterator[Run]:
    """A run of `config` in the store of this process, tracked until the block ends.

    Args:
        check: opens the store after checks of what this kind of run needs.

    Raises:
        ThinkRecError: what `check` found.
    """
    root = store_root()
    store = check(config, root)
    name = _new_name(root, preset)
    tracker = Tracker.start(root, name, config.model_dump(mode="json"))
    status = "KILLED"
    try:
        with store.in_use():
            yield Run(name, preset, RunContext(config, store, tracker, current_view()), time.monotonic())
        status = "FINISHED"
    except Exception:
        status = "FAILED"
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


def _run_file(root: Path, name: str) -> Path:
    return runs_folder(root) / f"{name}.json"
