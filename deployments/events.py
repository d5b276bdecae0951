"""What the platform is told: that a data set has a new snapshot, which starts thinkrec/on-new-data."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from pathlib import Path

from deployments.ports import answers
from deployments.prefect_rest import call
from deployments.servers import api_url

APPENDED = "thinkrec.data.appended"


def announce_snapshot(root: Path, dataset: Path, snapshot: str, rows: int) -> bool:
    """Tell the platform of the store at `root` that `dataset` has a new snapshot; False if no platform runs.

    Raises:
        PlatformError: the server refuses.
    """
    api = api_url(root)
    if api is None or not answers(f"{api}/health"):
        return False
    event = {
        "id": str(uuid.uuid4()),
        "occurred": datetime.now(UTC).isoformat(),
        "event": APPENDED,
        "resource": {"prefect.resource.id": f"thinkrec.dataset.{dataset.name}"},
        "payload": {"dataset": str(dataset.absolute()), "snapshot": snapshot, "rows": rows},
    }
    call(f"{api}/events", [event])
    return True
