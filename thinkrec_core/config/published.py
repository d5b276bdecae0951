"""Sizes that a preparation is expected to have, for presets that rebuild a published table from raw files."""

from __future__ import annotations

from pydantic import Field

from thinkrec_core.config.base import Frozen


class PublishedSizes(Frozen):
    """Published counts; a preparation with others says so, and goes on."""

    train: int = Field(ge=1)
    """Rows."""
    valid: int = Field(ge=1)
    test: int = Field(ge=1)
    users: int | None = Field(None, ge=1)
    """Users with rows; null where nobody published it."""
    items: int | None = Field(None, ge=1)
