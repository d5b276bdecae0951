"""The configuration of a run: defaults < preset < file < single fields, and one line for whatever is wrong with it."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from flows.config_layers import Layer, assignment_layer, file_layer, mapping_layer, merged
from flows.presets import read_preset
from thinkrec_core.config.root import ThinkRecConfig
from thinkrec_core.errors import ConfigError


def load_config(
    preset: str = "quickstart", overrides: Mapping[str, Any] | None = None, snapshot: str | None = None
) -> ThinkRecConfig:
    """The configuration of `preset` with `overrides` on top.

    Args:
        overrides: nested or dotted fields with their values.
        snapshot: a data folder that takes the place of `data.source`.

    Raises:
        ConfigError: an unknown preset or field, a value of the wrong type, a contradiction, or a field that the preset
            wants to be given.
    """
    layers = [mapping_layer("overrides", overrides or {})]
    if snapshot is not None:
        layers.append(mapping_layer("snapshot", {"data.source": snapshot}))
    return resolve(preset, layers)


def user_layers(config_file: Path | None, assignments: list[str]) -> list[Layer]:
    """What the command line says on top of a preset: the file first, then each `field=value` in order.

    Raises:
        ConfigError: a file that cannot be read, or a field that does not exist.
    """
    layers = [file_layer(config_file)] if config_file is not None else []
    return layers + [assignment_layer(text) for text in assignments]


def resolve(preset: str, layers: list[Layer]) -> ThinkRecConfig:
    """The configuration of `preset` under `layers`, later ones winning.

    Raises:
        ConfigError: as `load_config`.
    """
    chosen = read_preset(preset)
    layers = [mapping_layer(f"preset {preset}", chosen.values), *layers]
    origin = {name: layer.origin for layer in layers for name in layer.leaves()}
    for name, wanted in chosen.requires.items():
        if name not in origin:
            raise ConfigError(f"preset {preset} needs {name}", wanted, f"add --set {name}=...")
    # From the complete defaults, since a part such as experts.training has defaults of its own that differ from its model's.
    values = merged([Layer("defaults", ThinkRecConfig().model_dump(mode="json")), *layers])
    try:
        return ThinkRecConfig.model_validate(values)
    except ValidationError as error:
        raise _config_error(error.errors(include_url=False), origin, layers[-1].origin) from None


def _config_error(problems: list[ErrorDetails], origin: Mapping[str, str], last: str) -> ConfigError:
    problem = problems[0]
    path, message = _path(problem["loc"]), problem["msg"]
    source = origin.get(path.partition("[")[0], last)
    more = f"; {len(problems) - 1} more after it" if len(problems) > 1 else ""
    if problem["type"] == "value_error":  # a contradiction, found by one of the models
        told = message.removeprefix("Value error, ")
        where = f"{path}: " if path else ""
        return ConfigError(f"{source}: {where}{told}", next_step=f"change one of them{more}")
    wanted = message.removeprefix("Input should be ")
    expected = problem.get("ctx", {}).get("expected", "")
    close = difflib.get_close_matches(str(problem["input"]), [word.strip("'") for word in _choices(expected)], n=1)
    hint = f"did you mean {close[0]}?" if close else ""
    return ConfigError(f"{source}: {path} is {problem['input']!r}", wanted, hint + more)


def _choices(expected: str) -> list[str]:
    return expected.replace(" or ", ", ").split(", ")


def _path(location: tuple[int | str, ...]) -> str:
    path = ""
    for part in location:
        path += f"[{part}]" if isinstance(part, int) else f".{part}" if path else str(part)
    return path
