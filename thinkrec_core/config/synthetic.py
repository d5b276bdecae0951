"""The data set that `data.source=synthetic` draws."""

from __future__ import annotations

from pydantic import Field

from thinkrec_core.config.base import Frozen


class SyntheticConfig(Frozen):
    """Made-up interactions with planted taste clusters, popularity, generosity and drift."""

    users: int = Field(1000, ge=1)
    items: int = Field(500, ge=1)
    rows: int = Field(50_000, ge=1)
    """Ratings; at most a quarter of all pairs of user and item."""
    clusters: int = Field(4, ge=1, le=20)
    """Taste clusters of users and of items."""
    drift: float = Field(0.1, ge=0, le=1)
    """Share of users whose taste changes."""
    seed: int = 7
    """Apart from the run's seed: trainings with several seeds see the same data."""
