from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.yaml_values import parse_yaml
from thinkrec_core.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2e-4", 2e-4),
        ("1.", 1.0),
        (".5", 0.5),
        ("-3", -3),
        ("012", 12),
        ("yes", "yes"),
        ("no", "no"),
        ("true", True),
        ("null", None),
        ("", None),
        ("1:30", "1:30"),
        ("2026-01-01", "2026-01-01"),
        ("[bias, 1]", ["bias", 1]),
        ("http://host:8000/v1", "http://host:8000/v1"),
    ],
)
def test_scalars_follow_yaml_1_2(text: str, value: Any) -> None:
    parsed = parse_yaml(text, "here")
    assert parsed == value
    assert type(parsed) is type(value)


_texts = st.text(st.characters(categories=("L", "N", "P", "S")), max_size=20)
_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | _texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_texts, inner, max_size=3),
    max_leaves=8,
)


@given(_values)
def test_json_is_read_as_json_reads_it(value: Any) -> None:
    # JSON is YAML 1.2 up to control characters and escapes, which these texts have none of but \\ and \".
    assert parse_yaml(json.dumps(value, ensure_ascii=False), "here") == value


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a: 1\na: 2", "a stands there twice"),
        ("{1: 2}", "key 1 is not a name"),
        ("[a", "line 1"),
        ("a: &x [*x]", "alias *x"),
        ("!!python/object/apply:os.system [ls]", "constructor"),
    ],
)
def test_what_cannot_be_meant_is_refused_in_one_line(text: str, told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_yaml(text, "--set here")
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("--set here")
