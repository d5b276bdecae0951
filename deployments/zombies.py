"""Flow runs that look alive but whose worker is dead: after a crash of the machine they hold the slot of a deployment."""

from __future__ import annotations

import json
import urllib.request
from typing import Any

from thinkrec_core.errors import PlatformError

_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))
LIVING = ["RUNNING", "PENDING", "CANCELLING"]


def crash_zombies(api: str, deployment: str) -> int:
    """The number of runs of `deployment` that were marked as crashed; to be called while no worker lives.

    Raises:
        PlatformError: the server refuses.
    """
    found = _post(
        f"{api}/flow_runs/filter",
        {
            "deployments": {"name": {"any_": [deployment]}},
            "flow_runs": {"state": {"type": {"any_": LIVING}}},
        },
    )
    for run in found:
        state = {"type": "CRASHED", "name": "Crashed", "message": "its worker was gone when the platform started"}
        _post(f"{api}/flow_runs/{run['id']}/set_state", {"state": state, "force": True})
    return len(found)


def _post(url: str, body: dict[str, Any]) -> Any:
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    try:
        with _DIRECT.open(request, timeout=30) as response:
            return json.load(response)
    except (OSError, ValueError) as error:
        raise PlatformError(
            f"the Prefect server refuses {url} ({error})", next_step="thinkrec down, then thinkrec up"
        ) from None
