"""What each call to the teacher took: one JSON line per call, a trace in MLflow, and sums per row. Telemetry, no result."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import asdict, dataclass
from pathlib import Path

from storage.tracking import StageTracker
from tasks.teacher.conversations import Call


@dataclass
class RowTotals:
    """Sums over the calls of one row.

    Attributes:
        requests: calls, the reused ones included.
        reused: calls that the journal answered.
        attempts: tries.
        seconds: of the last try of each call, when it was made.
    """

    requests: int = 0
    reused: int = 0
    attempts: int = 0
    seconds: float = 0.0


class Calls:
    """Keeps every call.

    Args:
        path: file of JSON lines.
        tracker: gets a trace of what was asked now.
    """

    def __init__(self, path: Path, tracker: StageTracker) -> None:
        self._path, self._tracker = path, tracker
        self.totals: defaultdict[int, RowTotals] = defaultdict(RowTotals)
        """By row."""

    def observe(self, call: Call) -> None:
        """Keep one call."""
        record = asdict(call)
        with self._path.open("a") as handle:
            handle.write(json.dumps(record) + "\n")
        row = self.totals[call.row]
        row.requests += 1
        row.reused += call.reused
        row.attempts += call.attempts
        row.seconds += call.seconds
        if not call.reused:
            self._tracker.teacher_trace(record)
