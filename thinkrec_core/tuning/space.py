"""The space of encoder settings that a search draws from: one range or list of choices per field."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from pydantic import ValidationError

from thinkrec_core.config.encoder import EncoderConfig
from thinkrec_core.errors import ConfigError

Value = bool | int | float


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`, both included; on a logarithmic scale where `log`, whole ones where `whole`."""

    low: float
    high: float
    log: bool
    whole: bool

    def holds(self, value: Value) -> bool:
        """Whether `value` can be drawn."""
        return self.low <= value <= self.high


@dataclass(frozen=True)
class Choices:
    """A list of values."""

    values: tuple[Value, ...]

    def holds(self, value: Value) -> bool:
        """Whether `value` can be drawn."""
        return value in self.values


Space = Mapping[str, Range | Choices]

DEFAULT: Space = {
    "learning_rate": Range(3e-4, 3e-2, log=True, whole=False),
    "weight_decay": Range(1e-6, 1e-2, log=True, whole=False),
    "embedding_size": Choices((16, 32, 64, 128)),
    "layers": Range(1, 3, log=False, whole=True),
    "dropout": Range(0.0, 0.5, log=False, whole=False),
    "batch_size": Choices((256, 512, 1024, 2048)),
}
UNUSED: Mapping[str, frozenset[str]] = {
    "mf": frozenset({"layers", "dropout"}),
    "lightgcn": frozenset({"dropout"}),
    "din": frozenset({"layers"}),
}
"""Fields that change nothing in an encoder; any other encoder is searched over all of DEFAULT."""
LOG_RATIO = 10
"""A given range of numbers above zero that spans this factor is searched on a logarithmic scale."""


def space_of(base: EncoderConfig, ranges: Mapping[str, Range | Choices]) -> Space:
    """The default space of the encoder `base`, with `ranges` in place of its own or beside them.

    Raises:
        ConfigError: a range holds a value that the field refuses.
    """
    unused = UNUSED.get(base.kind, frozenset())
    space = {name: part for name, part in DEFAULT.items() if name not in unused} | dict(ranges)
    for name, part in space.items():
        for value in _ends(part):
            try:
                EncoderConfig.model_validate(base.model_dump() | {name: value})
            except ValidationError as error:
                raise ConfigError(f"range of {name} holds {value}", _told(error)) from None
    return space


def range_of(name: str, values: Sequence[Value], ends: bool) -> Range | Choices:
    """What a user gave for the field `name`: two `ends` of a range, or a list of choices.

    Raises:
        ConfigError: a field that cannot be searched over, a range that is none, or a list without values.
    """
    field = EncoderConfig.model_fields.get(name)
    numeric = [key for key, value in EncoderConfig.model_fields.items() if value.annotation in (int, float, bool)]
    if field is None or name not in numeric:
        close = difflib.get_close_matches(name, numeric, n=1)
        hint = f"did you mean {close[0]}?" if close else ""
        raise ConfigError(f"range of {name}, which cannot be searched over", ", ".join(numeric), hint)
    if not values or any(not isinstance(value, (bool, int, float)) for value in values):
        raise ConfigError(f"range of {name} is {list(values)}", "numbers, such as 1e-4:1e-2 or 16,32,64")
    if not ends:
        return Choices(tuple(dict.fromkeys(values)))
    if len(values) != 2 or not values[0] < values[1]:
        raise ConfigError(f"range of {name} is {':'.join(map(str, values))}", "a lower and a higher number")
    low, high = values
    whole = field.annotation is int
    if whole and not (float(low).is_integer() and float(high).is_integer()):
        raise ConfigError(f"range of {name} is {low}:{high}", "whole numbers")
    return Range(low, high, log=low > 0 and high / low >= LOG_RATIO, whole=whole)


def described(space: Space) -> dict[str, Any]:
    """The space as JSON-able values."""
    return {name: asdict(part) for name, part in space.items()}


def _ends(part: Range | Choices) -> tuple[Value, ...]:
    if isinstance(part, Choices):
        return part.values
    return (int(part.low), int(part.high)) if part.whole else (part.low, part.high)


def _told(error: ValidationError) -> str:
    return error.errors(include_url=False)[0]["msg"].removeprefix("Input should be ").removeprefix("Value error, ")
