"""What a user says about a search, as values: the encoder, its ranges, and the figure to make large."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import TYPE_CHECKING, get_args

from pydantic import ValidationError

from flows.yaml_values import parse_yaml
from thinkrec_core.config.encoder import KINDS, EncoderConfig
from thinkrec_core.config.root import ThinkRecConfig
from thinkrec_core.errors import ConfigError
from thinkrec_core.recllm.selection import SelectBy
from thinkrec_core.tuning.space import Choices, Range, range_of, space_of

if TYPE_CHECKING:
    from tasks.tune_encoder import Search


def search_of(
    config: ThinkRecConfig, encoder: str, trials: int, by: SelectBy, seeds: int, ranges: Sequence[str], prune: bool
) -> Search:
    """The search that the options name.

    Raises:
        ConfigError: an unknown encoder, or a range that is none.
    """
    from tasks.tune_encoder import Search  # Prefect: not for a mistake in an option

    base, space = checked(config, encoder, ranges)
    return Search(base, space, by, trials, seeds, prune)


def checked(
    config: ThinkRecConfig, encoder: str, ranges: Sequence[str]
) -> tuple[EncoderConfig, dict[str, Range | Choices]]:
    """The base settings and the space; raises as `search_of`."""
    base = base_settings(config, encoder)
    return base, dict(space_of(base, dict(parse_range(text) for text in ranges)))


def base_settings(config: ThinkRecConfig, encoder: str) -> EncoderConfig:
    """What the ladder would fit as the rung `encoder`; the defaults for an encoder of one's own that it does not name."""
    rung = getattr(config.ladder, encoder if encoder in KINDS else "own", None)
    if isinstance(rung, EncoderConfig) and rung.kind == encoder:
        return rung
    try:
        return EncoderConfig(kind=encoder)
    except ValidationError:
        close = difflib.get_close_matches(encoder, KINDS, n=1)
        hint = f"did you mean {close[0]}?" if close else ""
        raise ConfigError(f"no encoder {encoder}", f"{', '.join(KINDS)} or package.module:Class", hint) from None


def parse_range(text: str) -> tuple[str, Range | Choices]:
    """(field, range) of "learning_rate=1e-4:1e-2" or "embedding_size=16,32,64".

    Raises:
        ConfigError: it is neither.
    """
    name, equals, rest = text.partition("=")
    if not equals or not rest:
        raise ConfigError(f"--range {text} is no range", "field=low:high or field=value,value")
    ends = ":" in rest
    values = [parse_yaml(part, f"--range {text}") for part in rest.split(":" if ends else ",")]
    return name.strip(), range_of(name.strip(), values, ends)


def figure_of(by: str) -> SelectBy:
    """The valid figure called `by`.

    Raises:
        ConfigError: there is none.
    """
    for known in get_args(SelectBy):
        if by == known:
            return known
    raise ConfigError(f"--by {by}", ", ".join(get_args(SelectBy)))
