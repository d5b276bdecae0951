"""What each call to the teacher took: one JSON line per call, a trace in MLflow, and sums per row. Telemetry, no result."""

from __future__ import annotations

import json
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from storage.crash_points import reached
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
    """Keeps every call, used as a context manager.

    MLflow's database takes longer for a trace than a dialogue may wait, so a thread of its own hands them over.

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
        record = dict(vars(call))
        self._file.write(json.dumps(record) + "\n")
        row = self.totals[call.row]
        row.requests += 1
        row.reused += call.reused
        row.attempts += call.attempts
        row.seconds += call.seconds
        reached("reflections/answered")
        if not call.reused:
            self._traces.submit(self._tracker.teacher_trace, record)

    def __enter__(self) -> Self:
        self._file = self._path.open("a", encoding="utf-8")
        self._traces = ThreadPoolExecutor(max_workers=1, thread_name_prefix="traces")
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()
        self._traces.shutdown()
