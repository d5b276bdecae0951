"""What happens to a run's model beside the one in use: where training starts, and which of both serves afterwards."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from thinkrec_core.config.base import Frozen


class RerunConfig(Frozen):
    """Reruns on new data: warm start, promotion, and when a run counts as stuck."""

    start_from: Literal["nothing", "champion"] = "nothing"
    """`champion`: encoder weights of known users and items, general adapter and projector start from the champion's, if it
    was trained on other data; the settings of both have to fit."""
    promote: bool = True
    """Register the bundle of a finished run in MLflow, and let it become champion if it is better."""
    by: Literal["auc", "uauc"] = "auc"
    """The figure on the newest valid window that decides."""
    margin: float = Field(0.0, ge=0, lt=1)
    """The lower end of the 95% paired interval (candidate - champion, users drawn again) has to lie above this."""
    rows: int | None = Field(1000, ge=2)
    """About this many valid rows, as whole users, on which both are scored; null takes all."""
    stuck_minutes: float = Field(60.0, gt=0)
    """Without any progress for so long a run is reported as stuck."""
