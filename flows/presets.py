"""The presets that ship with the package: one YAML file each, whose header tells command, hardware, time, expectation."""

from __future__ import annotations

import difflib
from dataclasses import dataclass, field
from importlib import resources
from typing import Any

from flows.yaml_values import parse_yaml
from thinkrec_core.errors import ConfigError

REQUIRES = "requires"
"""Key of a preset file that maps fields without a sensible value to what the user has to give."""
EXTENDS = "extends"
"""Key of a preset file that names another one, whose values hold where the file has none."""


@dataclass(frozen=True)
class Preset:
    """A named set of values that replace defaults."""

    name: str
    header: str
    """The comment at the top of the file, without its marks."""
    values: dict[str, Any] = field(default_factory=dict)
    requires: dict[str, str] = field(default_factory=dict)
    """Dotted fields that a run has to be given, with a description of what to give."""


def preset_names() -> tuple[str, ...]:
    """The names of all presets, sorted."""
    folder = resources.files("deployments") / "presets"
    return tuple(sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml")))


def read_preset(name: str) -> Preset:
    """The preset `name`.

    Raises:
        ConfigError: there is none of that name.
    """
    names = preset_names()
    if name not in names:
        close = difflib.get_close_matches(name, names, n=1)
        hint = f"did you mean {close[0]}?" if close else ""
        raise ConfigError(f"unknown preset {name!r}", "one of " + ", ".join(names), hint)
    text = (resources.files("deployments") / "presets" / f"{name}.yaml").read_text(encoding="utf-8")
    values = parse_yaml(text, f"preset {name}") or {}
    requires, base = values.pop(REQUIRES, {}), values.pop(EXTENDS, None)
    if base is not None:
        values = _over(read_preset(base).values, values)
    return Preset(name, _header(text), values, requires)


def _over(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """Nested values, those of `above` first."""
    inner = {name: _over(below[name], value) for name, value in above.items() if isinstance(below.get(name), dict)}
    return {**below, **above, **inner}


def _header(text: str) -> str:
    lines = []
    for line in text.splitlines():
        if not line.startswith("#"):
            break
        lines.append(line.removeprefix("#").removeprefix(" ").rstrip())
    return "\n".join(lines).strip()
