"""The base of every configuration model: frozen, no unknown fields, docstrings as field descriptions."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Frozen(BaseModel):
    """A configuration model that cannot change after it is built and that refuses misspelt fields."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)
