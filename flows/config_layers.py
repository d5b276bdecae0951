"""Layers of configuration values: names checked against the models, dotted or nested, each with its origin.

A layer is what one source says: a preset, a file, one `--set`. Names are checked layer by layer, so that an error can say
which source holds the misspelt field.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from flows.yaml_values import parse_yaml
from thinkrec_core.config.root import ThinkRecConfig
from thinkrec_core.errors import ConfigError


@dataclass(frozen=True)
class Layer:
    """Nested values of one source."""

    origin: str
    """What an error names: "preset smoke", "--config my.yaml", "--set seed=x", "overrides"."""
    values: dict[str, Any]

    def leaves(self) -> Iterator[str]:
        """Dotted names of all fields that the layer sets."""
        yield from _leaves(self.values, "")


def mapping_layer(origin: str, values: Any) -> Layer:
    """The layer of nested or dotted `values` ({"training": {"steps": 3}} or {"training.steps": 3}).

    Raises:
        ConfigError: no mapping, or a field that does not exist.
    """
    if not isinstance(values, Mapping):
        raise ConfigError(f"{origin} holds {values!r}", "a mapping of fields to values")
    return Layer(origin, _nested(values, origin, ThinkRecConfig, ""))


def file_layer(path: Path) -> Layer:
    """The layer of a YAML file.

    Raises:
        ConfigError: the file cannot be read, is not YAML, or names a field that does not exist.
    """
    origin = f"--config {path}"
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{origin} cannot be read ({error.strerror})", "a YAML file of fields") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{origin} is not UTF-8 text", "a YAML file of fields") from None
    return mapping_layer(origin, parse_yaml(text, origin) or {})


def assignment_layer(text: str) -> Layer:
    """The layer of one `field=value`: the value is YAML, or the text as it stands where the field holds text.

    Raises:
        ConfigError: no "=", a field that does not exist, or a value that is not YAML.
    """
    origin = f"--set {text}"
    name, equals, value = text.partition("=")
    name = name.strip()
    if not equals or not name:
        raise ConfigError(f"{origin} is no assignment", "field=value, such as training.learning_rate=2e-4")
    mapping_layer(origin, {name: None})  # the name first, then its value
    if name in _text_fields():
        if not value:
            raise ConfigError(f"{origin} has no value", f"{name}=text")
        return mapping_layer(origin, {name: value})
    return mapping_layer(origin, {name: parse_yaml(value, origin)})


def merged(layers: list[Layer]) -> dict[str, Any]:
    """One nested dictionary; later layers win."""
    total: dict[str, Any] = {}
    for layer in layers:
        _merge(total, layer.values)
    return total


def field_names() -> tuple[str, ...]:
    """Dotted names of all fields of the configuration, in the order of the models."""
    return tuple(_field_names(ThinkRecConfig, ""))


def _nested(values: Mapping[Any, Any], origin: str, model: type[BaseModel], prefix: str) -> dict[str, Any]:
    nested: dict[str, Any] = {}
    for key, value in values.items():
        name, _, rest = str(key).partition(".")
        path = f"{prefix}{name}"
        if name not in model.model_fields:
            raise _unknown(origin, f"{prefix}{key}", name, model, prefix)
        group = _group(model, name)
        if group is None:
            if rest:
                raise ConfigError(f"{origin}: {path}.{rest} is not a field", f"{path}, which has no fields of its own")
            nested[name] = value
            continue
        inner = {rest: value} if rest else value
        if inner is None:
            inner = {}  # a heading in a file whose lines are all commented out
        if not isinstance(inner, Mapping):
            example = next(iter(group.model_fields))
            raise ConfigError(f"{origin}: {path} is {inner!r}", f"fields of it, such as {path}.{example}")
        _merge(nested.setdefault(name, {}), _nested(inner, origin, group, f"{path}."))
    return nested


def _merge(total: dict[str, Any], values: Mapping[str, Any]) -> None:
    for name, value in values.items():
        if isinstance(value, Mapping) and isinstance(total.get(name), dict):
            _merge(total[name], value)
        else:
            total[name] = dict(value) if isinstance(value, Mapping) else value


def _unknown(origin: str, path: str, name: str, model: type[BaseModel], prefix: str) -> ConfigError:
    siblings = list(model.model_fields)
    close = [f"{prefix}{match}" for match in difflib.get_close_matches(name, siblings, n=1)]
    if not close:
        leaf = path.rpartition(".")[2]
        others = difflib.get_close_matches(leaf, {known.rpartition(".")[2] for known in field_names()}, n=1)
        close = [known for known in field_names() if others and known.rpartition(".")[2] == others[0]][:3]
    if close:
        return ConfigError(f"{origin}: {path} is not a field", next_step=f"did you mean {' or '.join(close)}?")
    expected = f"one of {', '.join(siblings)}"
    return ConfigError(f"{origin}: {path} is not a field", expected, "thinkrec config prints all fields")


def _group(model: type[BaseModel], name: str) -> type[BaseModel] | None:
    """The model of a field that has fields of its own, else None."""
    annotation = model.model_fields[name].annotation
    return annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else None


def _text_fields() -> frozenset[str]:
    return frozenset(_field_names(ThinkRecConfig, "", kind=str))


def _field_names(model: type[BaseModel], prefix: str, kind: type | None = None) -> Iterator[str]:
    for name, info in model.model_fields.items():
        group = _group(model, name)
        if group is not None:
            yield from _field_names(group, f"{prefix}{name}.", kind)
        elif kind is None or info.annotation is kind:
            yield f"{prefix}{name}"


def _leaves(values: Mapping[str, Any], prefix: str) -> Iterator[str]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"
