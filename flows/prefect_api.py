"""The Prefect API behind a run on the command line: the platform's server if it answers, else one that lives as long.

Prefect's own temporary server would outlive a run that is killed; this one is a supervised child and ends with it. It
starts while the tasks are being imported, which takes as long.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import sys
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from deployments.environment import platform_environment, settle_run_environment
from deployments.ports import HOST, answers, free_port, wait_until_answers
from deployments.servers import api_url
from storage.home import logs_folder
from tasks.processes import Child
from thinkrec_core.errors import PlatformError

STARTUP_SECONDS = 120.0
"""Prefect's own 20 seconds are too few on a machine under load."""

IDLE = (
    "CANCELLATION_CLEANUP",
    "CLEANUP_RECONCILER",
    "DB_VACUUM",
    "EVENT_LOGGER",
    "EVENT_PERSISTER",
    "FOREMAN",
    "LATE_RUNS",
    "PAUSE_EXPIRATIONS",
    "REPOSSESSOR",
    "SCHEDULER",
    "TRIGGERS",
)
SERVICES = {f"PREFECT_SERVER_SERVICES_{name}_ENABLED": "false" for name in IDLE}
"""What is left of Prefect's services: the recorder of task runs, so that the history shows them. The others are for schedules
and deployments, which a run on the command line does not touch."""


class PrefectAPI:
    """The API for one run; a context manager that settles the environment on entry, before Prefect is imported.

    Args:
        root: the store's root.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._server: Child | None = None
        self._starting: IO[str] | None = None
        self._settings = contextlib.ExitStack()
        self.url = ""

    def __enter__(self) -> Self:
        named = [os.environ.get("PREFECT_API_URL", ""), api_url(self._root) or ""]
        self.url = next((url for url in named if url and answers(f"{url}/health")), "")
        if not self.url:
            self._start_server()
        settle_run_environment(self._root, self.url)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._settings.close()
        if self._server is not None:
            self._server.stop()
        self._started()

    def wait(self) -> None:
        """Return when the API answers; flows then send no heartbeats until the end of the context.

        Nothing listens to those of a run on the command line, and the end of each flow would wait up to a second for their thread.

        Raises:
            PlatformError: the temporary server ended, or does not answer in time.
        """
        server = self._server
        if server is None or wait_until_answers(f"{self.url}/health", STARTUP_SECONDS, lambda: server.poll() is None):
            self._started()
            from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings

            self._settings.enter_context(temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}))
            return
        last = server.log_tail(1) or "no output"
        raise PlatformError(
            f"the temporary Prefect server at {self.url} does not answer ({last})", next_step=f"see {server.log}"
        )

    def _start_server(self) -> None:
        port = free_port()
        self.url = f"http://{HOST}:{port}/api"
        command = [sys.executable, "-m", "prefect", "server", "start", "--host", HOST, "--port", str(port)]
        # Two servers that create the tables of the same database at once would trip over each other.
        (self._root / "locks").mkdir(parents=True, exist_ok=True)
        self._starting = (self._root / "locks" / "prefect-start").open("w")
        fcntl.flock(self._starting, fcntl.LOCK_EX)
        log = logs_folder(self._root) / "prefect-run.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_bytes(b"")  # the last start is the one to read about
        environment = {**platform_environment(self._root), **SERVICES}
        self._server = Child.start([*command, "--no-ui"], log, environment)

    def _started(self) -> None:
        if self._starting is not None:
            self._starting.close()
            self._starting = None
