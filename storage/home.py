"""Where a store lies, and what lies in it beside the artifacts.

$THINKREC_HOME or ./.thinkrec
├── artifacts/ building/ scratch/ locks/     storage.store
├── mlflow.db, mlartifacts/                  storage.mlflow_backend
├── catalog.duckdb                           storage.catalog
├── runs/<run>.json                          the summary of each finished run
├── tuning/<study>/                          storage.studies
├── logs/                                    what libraries and servers had to say
├── platform/                                daemons that `thinkrec up` started
└── prefect/                                 PREFECT_HOME: never the one in the user's home folder
"""

from __future__ import annotations

import os
from pathlib import Path

ENVIRONMENT_VARIABLE = "THINKREC_HOME"
FOLDER = ".thinkrec"


def store_root() -> Path:
    """The absolute root of the store: $THINKREC_HOME, or .thinkrec in the working folder. Nothing is created."""
    configured = os.environ.get(ENVIRONMENT_VARIABLE)
    return Path(os.path.abspath(Path(configured).expanduser() if configured else FOLDER))


def runs_folder(root: Path) -> Path:
    """The folder of run summaries."""
    return root / "runs"


def logs_folder(root: Path) -> Path:
    """The folder of log files."""
    return root / "logs"


def platform_folder(root: Path) -> Path:
    """The folder that remembers the daemons of the platform."""
    return root / "platform"


def prefect_home(root: Path) -> Path:
    """The folder that Prefect calls PREFECT_HOME: its database and profiles."""
    return root / "prefect"
