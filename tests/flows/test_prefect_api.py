"""The API behind a run on the command line, in a process of its own: it settles the environment before Prefect is imported."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from pytest_httpserver import HTTPServer

SCRIPT = """
import sys
from pathlib import Path
from flows.prefect_api import PrefectAPI

def beats():
    from prefect.settings import get_current_settings
    return get_current_settings().flows.heartbeat_frequency

with PrefectAPI(Path(sys.argv[1])) as api:
    api.wait()
    print(api.url, beats())
print(beats() is None)
"""


def test_flows_send_no_heartbeats_while_the_context_lasts(httpserver: HTTPServer, tmp_path: Path) -> None:
    httpserver.expect_request("/api/health").respond_with_data("true")
    url = httpserver.url_for("/api")
    variables = {**os.environ, "PREFECT_API_URL": url}
    command = [sys.executable, "-c", SCRIPT, str(tmp_path)]
    done = subprocess.run(command, env=variables, capture_output=True, text=True, check=False, timeout=120)
    assert done.stdout.splitlines() == [f"{url} None", "False"], done.stderr
