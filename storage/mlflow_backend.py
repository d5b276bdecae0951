"""MLflow over one SQLite file below the store's root: every call takes an explicit run id and none may stop a run.

MLflow is imported when the backend opens, since the import takes one or two seconds. Its fluent functions are left
alone: they keep an active run and a tracking address per process, and two runs in one process would share them.

A call that meets a locked database waits (SQLite's busy timeout is 20 s inside MLflow) and is tried again; what still
fails becomes a warning. Tracking tells about a run, the artifact store is the run.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import re
import time
import warnings
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import IO, Any, TypeVar

from storage.mlflow_trace import store_trace

logger = logging.getLogger(__name__)

EXPERIMENT = "thinkrec"
DATABASE = "mlflow.db"
ARTIFACTS = "mlartifacts"
MAX_VALUE = 500
"""Characters of a parameter or tag value; longer ones are cut."""
PAUSES = (0.5, 2.0)
"""Seconds before the second and third try of a call that met a locked database."""
QUIET = {"DO_NOT_TRACK": "1", "MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_ENABLE_ASYNC_LOGGING": "false"}
"""Switches set before the import: nothing leaves the machine, and nothing waits in a queue when a process dies."""

T = TypeVar("T")


def database_uri(root: Path) -> str:
    """The tracking address of the store at `root`: an absolute SQLite URI."""
    return f"sqlite:///{(root / DATABASE).resolve()}"


class Backend:
    """The experiment of one store, opened.

    Args:
        root: the store's root; holds the database, the artifact folder and the locks.

    Raises:
        Exception: whatever MLflow or SQLite raise when the database cannot be opened; the caller degrades.
    """

    def __init__(self, root: Path) -> None:
        for name, value in QUIET.items():
            os.environ.setdefault(name, value)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from mlflow.tracking import MlflowClient
        for name in ("mlflow", "alembic"):
            logging.getLogger(name).setLevel(logging.WARNING)
        self.root, self.uri = root, database_uri(root)
        self._locks = root / "locks"
        self._locks.mkdir(parents=True, exist_ok=True)
        self._held: dict[str, IO[str]] = {}
        with (self._locks / "mlflow-open").open("w") as handle:
            # Two processes that create the tables of an empty database at once would trip over each other.
            fcntl.flock(handle, fcntl.LOCK_EX)
            self.client = MlflowClient(self.uri)
            found = self.client.get_experiment_by_name(EXPERIMENT)
            self.experiment_id = (
                found.experiment_id
                if found
                else self.client.create_experiment(EXPERIMENT, artifact_location=(root / ARTIFACTS).resolve().as_uri())
            )

    def create_run(self, name: str, tags: Mapping[str, str], parent: str | None = None) -> str:
        """The id of a new run; a run without `parent` holds a lock that shows it is alive.

        Raises:
            Exception: the database stayed locked or cannot be written; the caller degrades.
        """
        links = {"mlflow.parentRunId": parent} if parent else {}
        run = _patiently(
            lambda: self.client.create_run(self.experiment_id, tags={**_texts(tags), **links}, run_name=name)
        )
        run_id = str(run.info.run_id)
        if not parent:
            handle = (self._locks / f"mlflow-run-{run_id}").open("w")
            fcntl.flock(handle, fcntl.LOCK_EX)
            self._held[run_id] = handle
        return run_id

    def end_run(self, run_id: str, status: str) -> None:
        """Set the final status: FINISHED, FAILED or KILLED."""
        self._guard("end", lambda: self.client.set_terminated(run_id, status))
        handle = self._held.pop(run_id, None)
        if handle is not None:
            Path(handle.name).unlink(missing_ok=True)
            handle.close()

    def end_dead_runs(self) -> int:
        """Mark runs whose process was killed as KILLED, with their stages; returns how many."""
        return self._guard("sweep", self._end_dead_runs) or 0

    def params(self, run_id: str, values: Mapping[str, Any]) -> None:
        """Log nested `values` as parameters with dotted names."""
        from mlflow.entities import Param

        params = [Param(name, value) for name, value in _texts(flattened(values)).items()]
        for part in _parts(params, 100):
            self._guard("params", partial(self.client.log_batch, run_id, params=part))

    def metrics(self, run_id: str, points: Iterable[tuple[str, float, int]]) -> None:
        """Log (name, value, step) points in batches."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        metrics = [Metric(metric_name(name), float(value), now, int(step)) for name, value, step in points]
        for part in _parts(metrics, 1000):
            self._guard("metrics", partial(self.client.log_batch, run_id, metrics=part))

    def tags(self, run_id: str, values: Mapping[str, Any]) -> None:
        """Set tags."""
        from mlflow.entities import RunTag

        tags = [RunTag(name, value) for name, value in _texts(values).items()]
        self._guard("tags", lambda: self.client.log_batch(run_id, tags=tags))

    def artifact(self, run_id: str, path: Path) -> None:
        """Copy a file, or a folder under its own name, to the run's artifacts."""
        if path.is_dir():
            self._guard("artifact", lambda: self.client.log_artifacts(run_id, str(path), path.name))
        else:
            self._guard("artifact", lambda: self.client.log_artifact(run_id, str(path)))

    def config(self, run_id: str, values: Mapping[str, Any]) -> None:
        """Log the whole configuration as the artifact config.json."""
        self._guard("config", lambda: self.client.log_dict(run_id, dict(values), "config.json"))

    def dataset(self, run_id: str, path: Path, name: str, digest: str, context: str) -> None:
        """Log a table as an input of the run, by name, digest and path; no rows are read."""
        from mlflow.entities import Dataset, DatasetInput, InputTag

        source = json.dumps({"uri": path.resolve().as_uri()})
        data = Dataset(name=name[:MAX_VALUE], digest=digest[:36], source_type="local", source=source)
        item = DatasetInput(data, [InputTag("mlflow.data.context", context)])
        self._guard("dataset", lambda: self.client.log_inputs(run_id, [item]))

    def trace(self, run_id: str, record: Mapping[str, Any]) -> None:
        """Store one finished request as a trace of one span; times are those of the record, not of this call."""
        self._guard("trace", lambda: store_trace(self.uri, self.experiment_id, run_id, record))

    def _end_dead_runs(self) -> int:
        ended = 0
        for lock in self._locks.glob("mlflow-run-*"):
            run_id = lock.name.removeprefix("mlflow-run-")
            with contextlib.suppress(OSError), lock.open("w") as handle:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)  # fails while the run's process lives
                for stage in self.client.search_runs(
                    [self.experiment_id],
                    f"tags.`mlflow.parentRunId` = '{run_id}' and attributes.status = 'RUNNING'",
                ):
                    self.client.set_terminated(stage.info.run_id, "KILLED")
                self.client.set_terminated(run_id, "KILLED")
                lock.unlink(missing_ok=True)
                ended += 1
        return ended

    @staticmethod
    def _guard(what: str, call: Callable[[], T]) -> T | None:
        try:
            return _patiently(call)
        except Exception as error:
            logger.warning("MLflow %s was not logged (%s); the run goes on", what, str(error).splitlines()[0][:200])
            return None


def flattened(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """`values` with nested mappings joined by dots: {"a": {"b": 1}} gives {"a.b": 1}."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and value:
            flat.update(flattened(value, f"{name}."))
        else:
            flat[name] = value
    return flat


def metric_name(name: str) -> str:
    """`name` in the letters that MLflow allows: "ndcg@5" becomes "ndcg_at_5"."""
    return re.sub(r"[^\w\-. /]", "_", name.replace("@", "_at_"))


def _texts(values: Mapping[str, Any]) -> dict[str, str]:
    texts = {}
    for name, value in values.items():
        text = value if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False)
        texts[name[:250]] = text if len(text) <= MAX_VALUE else text[: MAX_VALUE - 1] + "…"
    return texts


def _parts(items: list[T], size: int) -> Iterable[list[T]]:
    return (items[start : start + size] for start in range(0, len(items), size))


def _patiently(call: Callable[[], T]) -> T:
    for pause in PAUSES:
        try:
            return call()
        except Exception as error:
            if "locked" not in str(error):
                raise
            time.sleep(pause)
    return call()
