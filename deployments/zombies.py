"""Flow runs that look alive but whose worker is dead: after a crash of the machine they hold the slot of a deployment."""

from __future__ import annotations

from typing import Any

from deployments.prefect_rest import call

LIVING = ["RUNNING", "PENDING", "CANCELLING"]


def zombies(api: str, pool: str) -> list[dict[str, Any]]:
    """The runs of the work pool `pool` that the server holds for alive; zombies if no worker lives.

    Raises:
        PlatformError: the server refuses.
    """
    found: list[dict[str, Any]] = call(
        f"{api}/flow_runs/filter",
        {"work_pools": {"name": {"any_": [pool]}}, "flow_runs": {"state": {"type": {"any_": LIVING}}}},
    )
    return found


def crash_zombies(api: str, pool: str) -> int:
    """The number of runs of the work pool `pool` that were marked as crashed; to be called while no worker lives.

    Raises:
        PlatformError: the server refuses.
    """
    found = zombies(api, pool)
    for run in found:
        state = {"type": "CRASHED", "name": "Crashed", "message": "its worker was gone when the platform started"}
        call(f"{api}/flow_runs/{run['id']}/set_state", {"state": state, "force": True})
    return len(found)
