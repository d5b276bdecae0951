"""Environment variables under which Prefect and MLflow start: at home below the store, and silent towards the world.

They have to be set before the libraries are imported, since both read them then.
"""

from __future__ import annotations

import os
from pathlib import Path

from storage.home import prefect_home

PRIVATE = {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_CLOUD_ENABLE_ORCHESTRATION_TELEMETRY": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "HF_HUB_DISABLE_TELEMETRY": "1",
}
"""Nothing leaves the machine but what the user configured."""
SERVER = {
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    # The default keeps leases in memory and loses them when the server restarts.
    "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
    "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "false",
}
"""For every Prefect server that this project starts."""
QUIET = {
    # Errors reach the user as one line of the command line; Prefect would print the traceback of each failed task.
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",
    # The run's own log file holds its log lines; its server ends with it, and a minute would go into sending it the last.
    "PREFECT_LOGGING_TO_API_ENABLED": "false",
}
"""For a run inside the command line."""


def platform_environment(root: Path) -> dict[str, str]:
    """The whole environment of a server, worker or tool of the platform of the store at `root`."""
    inherited = {
        name: value for name, value in os.environ.items() if name not in ("PREFECT_PROFILE", "PREFECT_API_URL")
    }
    home = prefect_home(root)
    return {
        **inherited,
        **PRIVATE,
        **SERVER,
        "THINKREC_HOME": str(root),
        "PREFECT_HOME": str(home),
        "PREFECT_PROFILES_PATH": str(home / "profiles.toml"),
    }


def settle_run_environment(root: Path, api_url: str) -> None:
    """Set this process up for a run: to be called before Prefect is imported."""
    home = prefect_home(root)
    os.environ.update(PRIVATE)
    os.environ.update(QUIET)
    # Spinning threads of two programs on the same cores slow both twentyfold; to be set before torch is loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.update(
        PREFECT_HOME=str(home), PREFECT_PROFILES_PATH=str(home / "profiles.toml"), PREFECT_API_URL=api_url
    )
