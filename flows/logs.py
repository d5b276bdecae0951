"""Where log records of a run on the command line go: all to a file, warnings of our own packages to the person as well."""

from __future__ import annotations

import logging
from pathlib import Path

from storage.home import logs_folder
from tasks.view import View
from thinkrec_core.errors import one_line

OWN = ("flows", "tasks", "storage", "thinkrec_core")
LOG_FILE = "run.log"


class _ViewHandler(logging.Handler):
    """Shows a record as one line."""

    def __init__(self, view: View) -> None:
        super().__init__(logging.WARNING)
        self._view = view

    def emit(self, record: logging.LogRecord) -> None:
        """Say the message; the traceback, if there is one, is in the file."""
        self._view.say(f"  {record.levelname.lower()}: {one_line(record.getMessage())}")


def route_logs(root: Path, view: View) -> Path:
    """The log file that now takes warnings, errors and Python's warnings; to be called after Prefect was imported.

    Prefect's console handler stays, muted to critical records by the environment that `flows.prefect_api` sets.
    """
    path = logs_folder(root) / LOG_FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    to_file = logging.FileHandler(path, encoding="utf-8")
    to_file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    to_file.setLevel(logging.WARNING)
    logging.getLogger().addHandler(to_file)
    logging.captureWarnings(True)
    logging.raiseExceptions = False  # a record that cannot be delivered is no reason to write into the user's terminal
    for name in OWN:
        logging.getLogger(name).addHandler(_ViewHandler(view))
    return path
