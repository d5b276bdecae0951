"""What a training worker is told: one JSON file, written by the task, read by every rank."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from thinkrec_core.config.base import Frozen
from thinkrec_core.config.root import ThinkRecConfig

FINISHED = "finished.json"
"""Written below `scratch` when all phases are done."""
EVENTS = "events.jsonl"
"""Step and validation records below `scratch`, appended by rank 0 while it trains."""
FAILURE = "failure.json"
"""A user's mistake (ThinkRecError) found by the worker, below `scratch`."""


class TrainingJob(Frozen):
    """One training: the general adapter with its projector, the warm start, or one expert."""

    kind: Literal["general", "warm_start", "expert"]
    config: ThinkRecConfig
    model: Path
    """Folder of the base LM."""
    data: Path
    encoder: Path
    reflections: Path | None = None
    start_from: Path | None = None
    """Trained artifact to continue from: the warm start for `general`, the general adapter for `expert`."""
    clusters: Path | None = None
    cluster: int | None = None
    """Of an expert: which cluster of `clusters` it speaks for. Only who its users are decides what is trained."""
    sharers: int = 1
    """Trainings that run at the same time on this machine and share its CPU threads."""
    output: Path
    """Where the trained artifact goes."""
    scratch: Path
    """Where checkpoints and records live until the artifact is published."""

    @property
    def stage(self) -> str:
        """Name of the stage that this training is."""
        return self.kind if self.cluster is None else f"{self.kind}_{self.cluster}"
