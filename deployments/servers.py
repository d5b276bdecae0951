"""The two servers of the platform, Prefect's and MLflow's, on this machine only."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from deployments.daemons import Daemon, find_daemon, start_daemon, stop_daemon
from deployments.environment import platform_environment
from deployments.ports import HOST, require_free, wait_until_answers
from storage.home import prefect_home
from storage.mlflow_backend import ARTIFACTS, database_uri
from thinkrec_core.errors import PlatformError

PREFECT, MLFLOW, WORKER = "prefect-server", "mlflow-server", "worker"
STARTUP_SECONDS = 120.0


@dataclass(frozen=True)
class Addresses:
    """Where people find the servers."""

    prefect: str
    mlflow: str
    api: str
    """The address that Prefect's clients use."""


def start_servers(root: Path, prefect_port: int, mlflow_port: int) -> Addresses:
    """The addresses of both servers, which are started where they do not run yet; a running one keeps its port.

    Raises:
        PlatformError: a port is in use, or a server does not come up.
    """
    living = {name: _living(root, name) for name in (PREFECT, MLFLOW)}
    if living[PREFECT] is None:
        require_free(prefect_port, "the Prefect server", "--prefect-port")
    if living[MLFLOW] is None:
        require_free(mlflow_port, "the MLflow server", "--mlflow-port")
    prefect = living[PREFECT] or _start_prefect(root, prefect_port)
    mlflow = living[MLFLOW] or _start_mlflow(root, mlflow_port)
    _wait(root, prefect, "/api/health")
    _wait(root, mlflow, "/health")
    found = addresses(root)
    if found is None:
        raise PlatformError("the servers ended while they were started", next_step=f"see {prefect.log}, {mlflow.log}")
    return found


def addresses(root: Path) -> Addresses | None:
    """The addresses of the servers, None unless both live."""
    prefect, mlflow = _living(root, PREFECT), _living(root, MLFLOW)
    if prefect is None or mlflow is None:
        return None
    return Addresses(
        f"http://{HOST}:{prefect.port}", f"http://{HOST}:{mlflow.port}", f"http://{HOST}:{prefect.port}/api"
    )


def api_url(root: Path) -> str | None:
    """The address of the platform's Prefect API; None if its server does not live."""
    prefect = _living(root, PREFECT)
    return f"http://{HOST}:{prefect.port}/api" if prefect is not None else None


def _living(root: Path, name: str) -> Daemon | None:
    daemon = find_daemon(root, name)
    return daemon if daemon is not None and daemon.alive else None


def _start_prefect(root: Path, port: int) -> Daemon:
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", HOST, "--port", str(port)]
    environment = {**platform_environment(root), "PREFECT_API_URL": f"http://{HOST}:{port}/api"}
    return _start(root, PREFECT, command, environment, port)


def _start_mlflow(root: Path, port: int) -> Daemon:
    artifacts = (root / ARTIFACTS).resolve().as_uri()
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", database_uri(root)]
    command += ["--default-artifact-root", artifacts, "--host", HOST, "--port", str(port), "--workers", "1"]
    # Four workers and the job runner, both the default, take 3 GB; one worker takes 490 MB.
    environment = {**platform_environment(root), "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    return _start(root, MLFLOW, command, environment, port)


def _start(root: Path, name: str, command: list[str], environment: Mapping[str, str], port: int) -> Daemon:
    try:
        prefect_home(root).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise PlatformError(f"store folder {root} is not writable ({error.strerror})") from None
    return start_daemon(root, name, command, environment, port, root)


def _wait(root: Path, daemon: Daemon, health: str) -> None:
    if not wait_until_answers(f"http://{HOST}:{daemon.port}{health}", STARTUP_SECONDS, lambda: daemon.alive):
        stop_daemon(root, daemon.name)
        raise PlatformError(
            f"{daemon.name} on port {daemon.port} does not answer at {health}", next_step=f"see {daemon.log}"
        )
