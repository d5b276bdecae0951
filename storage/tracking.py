"""What a run tells MLflow: one parent run, one child run per stage.

    Tracker.start(root, name, config)        the parent run; all-cached runs leave one too
      └─ tracker.stage("general")            a child run, FAILED on an exception
           ├─ .params(...) .metrics(...) .metric_batch(...)
           └─ .dataset(...) .artifact(...) .teacher_trace(...)

A tracker without a backend (`NullTracker`, or a database that cannot be opened) takes the same calls and does nothing.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from storage.mlflow_backend import Backend, flattened, metric_name
from storage.mlflow_trace import succeeded
from thinkrec_core.errors import one_line

if TYPE_CHECKING:
    from storage.model_registry import ModelRegistry

__all__ = ["NullStageTracker", "NullTracker", "StageTracker", "Tracker", "flattened", "metric_name"]

logger = logging.getLogger(__name__)

TRACED_CALLS = 50
"""Teacher calls of a stage that are kept as traces; failures are always kept."""


class StageTracker:
    """The child run of one stage; silent without a backend.

    Args:
        backend: the open MLflow experiment, or None.
        run_id: MLflow's id of the child run; "" without a backend.
    """

    def __init__(self, backend: Backend | None, run_id: str) -> None:
        self.run_id = run_id
        self._backend = backend if run_id else None
        self._traced = 0

    def params(self, values: Mapping[str, Any]) -> None:
        """Log settings; nested mappings get dotted names, long values are cut."""
        if self._backend:
            self._backend.params(self.run_id, values)

    def metrics(self, values: Mapping[str, float | None], step: int | None = None) -> None:
        """Log figures at `step` (0 if None); undefined ones (None) are skipped."""
        self.metric_batch([(name, value, step or 0) for name, value in values.items() if value is not None])

    def metric_batch(self, points: Sequence[tuple[str, float, int]]) -> None:
        """Log many (name, value, step) points in one transaction."""
        if self._backend and points:
            self._backend.metrics(self.run_id, points)

    def dataset(self, path: Path, name: str, digest: str, context: str) -> None:
        """Log a table as an input: its name, content digest, path, and what it is for ("train", "test", ...)."""
        if self._backend:
            self._backend.dataset(self.run_id, path, name, digest, context)

    def artifact(self, path: Path) -> None:
        """Copy a file or folder to the run's artifacts."""
        if self._backend:
            self._backend.artifact(self.run_id, path)

    def teacher_trace(self, record: Mapping[str, Any]) -> None:
        """Keep one teacher call as a trace: the first 50 of a stage and every failure.

        Args:
            record: request and response (JSON-able), seconds, row, round, and status: "ok", "answered" or 200 where
                it succeeded.
        """
        if self._backend and (not succeeded(record) or self._traced < TRACED_CALLS):
            self._traced += 1
            self._backend.trace(self.run_id, record)


class Tracker:
    """The parent run; silent without a backend."""

    def __init__(self, backend: Backend | None, run_id: str) -> None:
        self.run_id = run_id
        self.uri = backend.uri if backend else ""
        self._backend = backend if run_id else None

    @classmethod
    def start(cls, root: Path, run_name: str, config: dict[str, Any]) -> Self:
        """A tracker with a new parent run in the database below `root`; runs that were killed are closed first.

        A database that cannot be opened or written gives a silent tracker and one warning: the run itself goes on.
        """
        try:
            backend = Backend(root)
            backend.end_dead_runs()
            run_id = backend.create_run(run_name, {"thinkrec.kind": "run"})
        except Exception as error:
            logger.warning("MLflow at %s cannot be used (%s); this run is not tracked", root, one_line(str(error), 200))
            return cls(None, "")
        backend.params(run_id, config)
        backend.config(run_id, config)
        return cls(backend, run_id)

    @classmethod
    def reopened(cls, root: Path | None, run_id: str) -> Tracker:
        """The tracker of an open run in another process; silent where the database cannot be opened."""
        try:
            return cls(Backend(root), run_id) if root else NullTracker()
        except Exception as error:
            logger.warning("MLflow at %s cannot be used (%s); not tracked from here", root, one_line(str(error), 200))
            return NullTracker()

    def __reduce__(self) -> tuple[Any, tuple[Path | None, str]]:
        return Tracker.reopened, (self._backend.root if self._backend else None, self.run_id)

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[StageTracker]:
        """The child run of stage `name`: FINISHED, FAILED on an exception, KILLED on an interrupt."""
        tracker = self._open_stage(name)
        status = "KILLED"
        try:
            yield tracker
            status = "FINISHED"
        except Exception as error:
            status = "FAILED"
            if self._backend and tracker.run_id:
                self._backend.tags(
                    tracker.run_id, {"thinkrec.error": f"{type(error).__name__}: {one_line(str(error))}"}
                )
            raise
        finally:
            if self._backend and tracker.run_id:
                self._backend.end_run(tracker.run_id, status)

    def registry(self) -> ModelRegistry | None:
        """The registered models beside this run; None without a backend."""
        from storage.model_registry import ModelRegistry

        return ModelRegistry(self._backend) if self._backend else None

    def metrics(self, values: Mapping[str, float | None]) -> None:
        """Log figures of the whole run; undefined ones (None) are skipped."""
        if self._backend:
            self._backend.metrics(
                self.run_id, [(name, value, 0) for name, value in values.items() if value is not None]
            )

    def artifact(self, path: Path) -> None:
        """Copy a file or folder to the run's artifacts."""
        if self._backend:
            self._backend.artifact(self.run_id, path)

    def tags(self, values: Mapping[str, Any]) -> None:
        """Set tags, such as which stages were cached."""
        if self._backend:
            self._backend.tags(self.run_id, values)

    def finish(self, status: str = "FINISHED") -> None:
        """Close the parent run as FINISHED, FAILED or KILLED."""
        if self._backend:
            self._backend.end_run(self.run_id, status)

    def _open_stage(self, name: str) -> StageTracker:
        if self._backend is None:
            return NullStageTracker()
        try:
            return StageTracker(self._backend, self._backend.create_run(name, {"thinkrec.kind": "stage"}, self.run_id))
        except Exception as error:
            logger.warning("stage %s is not tracked (%s)", name, one_line(str(error), 200))
            return NullStageTracker()


class NullStageTracker(StageTracker):
    """A stage tracker that keeps nothing."""

    def __init__(self) -> None:
        super().__init__(None, "")


class NullTracker(Tracker):
    """A tracker that keeps nothing, for tests and for use as a library."""

    def __init__(self) -> None:
        super().__init__(None, "")
