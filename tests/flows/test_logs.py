from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def test_warnings_go_to_the_file_and_our_own_to_the_person(tmp_path: Path) -> None:
    code = f"""
import logging, warnings
from pathlib import Path
from deployments.environment import settle_run_environment
root = Path({str(tmp_path)!r})
settle_run_environment(root, "http://127.0.0.1:9/api")
import prefect.logging, prefect.main
from rich.console import Console
from flows.logs import route_logs
from tasks.view import View
route_logs(root, View(Console()))
logging.getLogger("storage.tracking").warning("MLflow is\\nlocked")
logging.getLogger("some.library").warning("careful")
logging.getLogger("some.library").info("chatter")
warnings.warn("old call")
try:
    1 / 0
except ZeroDivisionError:
    logging.getLogger("prefect.task_runs").exception("Task run failed with exception")
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stderr == ""
    assert result.stdout == "  warning: MLflow is locked\n"
    kept = (tmp_path / "logs" / "run.log").read_text()
    for part in ("MLflow is", "careful", "old call", "ZeroDivisionError"):
        assert part in kept
    assert "chatter" not in kept
