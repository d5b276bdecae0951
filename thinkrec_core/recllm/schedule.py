"""The learning rate at a step: linear warm-up, then a cosine that is not shifted by the warm-up (spec of the method, section 3)."""

from __future__ import annotations

import math
from dataclasses import dataclass


def learning_rate_at(
    step: int, total: int, peak: float, minimum: float, warmup_from: float, warmup_steps: int
) -> float:
    """The rate at `step` of `total`.

    step < warmup_steps: warmup_from + (peak - warmup_from) * step / warmup_steps; else
    minimum + (peak - minimum) * (1 + cos(pi * step / total)) / 2.
    """
    if step < warmup_steps:
        return warmup_from + (peak - warmup_from) * step / warmup_steps
    return minimum + (peak - minimum) * (1 + math.cos(math.pi * step / total)) / 2


@dataclass(frozen=True)
class Schedule:
    """Learning-rate schedule of one parameter group."""

    peak: float
    minimum: float
    warmup_from: float
    warmup_steps: int

    def at(self, step: int, total: int) -> float:
        """The rate at `step` of `total`."""
        return learning_rate_at(step, total, self.peak, self.minimum, self.warmup_from, self.warmup_steps)
