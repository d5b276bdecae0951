"""The space of a search: defaults per encoder, ranges of a user, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from thinkrec_core.config.encoder import KINDS, EncoderConfig
from thinkrec_core.errors import ConfigError
from thinkrec_core.tuning.space import DEFAULT, Choices, Range, range_of, space_of


@pytest.mark.parametrize("kind", [*KINDS, "my.module:Encoder"])
def test_every_kind_has_a_space_and_none_of_fields_it_does_not_read(kind: str) -> None:
    space = space_of(EncoderConfig(kind=kind), {})
    assert {"learning_rate", "weight_decay", "embedding_size", "batch_size"} <= set(space) <= set(DEFAULT)
    assert ("layers" in space) == (kind not in ("mf", "din"))
    assert ("dropout" in space) == (kind not in ("mf", "lightgcn"))


def test_ranges_take_the_place_of_the_defaults() -> None:
    wide, narrow = range_of("learning_rate", [1e-4, 1e-2], True), range_of("dropout", [0.1, 0.3], True)
    assert wide == Range(1e-4, 1e-2, log=True, whole=False)
    assert narrow == Range(0.1, 0.3, log=False, whole=False)
    assert range_of("layers", [1, 4], True) == Range(1, 4, log=False, whole=True)
    assert range_of("biases", [True, False], False) == Choices((True, False))
    space = space_of(EncoderConfig(), {"learning_rate": wide, "epochs": Choices((5, 10))})
    assert space["learning_rate"] == wide
    assert space["epochs"].holds(10)
    assert not space["epochs"].holds(7)
    assert list(space)[-1] == "epochs"


@pytest.mark.parametrize(
    ("name", "values", "ends", "told"),
    [
        ("learnin_rate", [1, 2], True, "did you mean learning_rate"),
        ("kind", ["mf"], False, "cannot be searched over"),
        ("layers", [1.5, 3], True, "whole numbers"),
        ("dropout", [0.5, 0.1], True, "a lower and a higher number"),
        ("dropout", ["a", "b"], True, "numbers, such as"),
        ("dropout", [], False, "numbers, such as"),
    ],
)
def test_what_is_no_range_is_refused(name: str, values: list[Any], ends: bool, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        range_of(name, values, ends)


def test_values_that_the_field_refuses_are_told_before_the_search() -> None:
    with pytest.raises(ConfigError, match="range of dropout holds 1"):
        space_of(EncoderConfig(kind="sasrec"), {"dropout": Range(0, 1, False, False)})
    with pytest.raises(ConfigError, match="range of embedding_size holds 0"):
        space_of(EncoderConfig(), {"embedding_size": Choices((8, 0))})
