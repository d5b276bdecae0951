"""YAML as people expect it: the core rules of YAML 1.2, and no key twice.

PyYAML follows YAML 1.1, where `2e-4` is text, `yes` and `no` are booleans, `1:30` is ninety, and the second of two equal
keys wins silently. Each of these would turn a configuration into another one without a word.
"""

from __future__ import annotations

import re
from typing import Any

import yaml

from thinkrec_core.errors import ConfigError, one_line


class _CoreLoader(yaml.SafeLoader):
    """Safe loading with the scalar rules of YAML 1.2."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012 - PyYAML's own attribute

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """The next node; an alias is refused, since it could make a value that contains itself."""
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()
            raise yaml.composer.ComposerError(None, None, f"alias *{event.anchor} is not allowed", event.start_mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """The mapping of `node`, whose keys are distinct names."""
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                raise yaml.constructor.ConstructorError(None, None, f"key {key!r} is not a name", key_node.start_mark)
            if key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"{key} stands there twice", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


for _tag, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?[0-9]+", list("-+0123456789")),
    (
        "float",
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        list("-+.0123456789"),
    ),
):
    _CoreLoader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(rf"(?:{_pattern})\Z"), _first)
_CoreLoader.add_constructor("tag:yaml.org,2002:int", lambda loader, node: int(node.value))


def parse_yaml(text: str, origin: str) -> Any:
    """The value of one YAML document; None for an empty one.

    Args:
        origin: what an error names: "--config my.yaml", "preset smoke", "--set a.b=...".

    Raises:
        ConfigError: the text is not YAML, or a key stands there twice or is not a name.
    """
    try:
        return yaml.load(text, _CoreLoader)  # a subclass of SafeLoader
    except yaml.MarkedYAMLError as error:
        place = f" in line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise ConfigError(f"{origin} is not readable YAML{place} ({error.problem})") from None
    except (yaml.YAMLError, ValueError) as error:
        raise ConfigError(f"{origin} is not readable YAML ({one_line(str(error), 200)})") from None
