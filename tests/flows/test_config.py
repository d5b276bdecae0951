from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from flows.config import load_config, resolve, user_layers
from flows.config_layers import field_names, merged
from flows.presets import preset_names
from thinkrec_core.config.root import ThinkRecConfig
from thinkrec_core.errors import ConfigError


def said(preset: str = "quickstart", *assignments: str, file: Path | None = None) -> str:
    with pytest.raises(ConfigError) as caught:
        resolve(preset, user_layers(file, list(assignments)))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_each_layer_wins_over_the_one_before(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("seed: 11\nencoder:\n  epochs: 3\n  learning_rate: 5e-3\ntraining.steps: 9\n")
    defaults = ThinkRecConfig()
    by_preset = load_config("smoke")
    config = resolve("smoke", user_layers(file, ["encoder.epochs=2", "encoder.kind=sasrec"]))
    assert config.encoder.patience == defaults.encoder.patience
    assert config.encoder.embedding_size == by_preset.encoder.embedding_size != defaults.encoder.embedding_size
    assert (config.seed, config.encoder.learning_rate, config.training.steps) == (11, 5e-3, 9)
    assert (config.encoder.epochs, config.encoder.kind) == (2, "sasrec")


def test_a_later_assignment_wins() -> None:
    assert resolve("quickstart", user_layers(None, ["seed=1", "seed=2"])).seed == 2


def test_a_part_keeps_its_own_defaults_under_a_partial_override() -> None:
    # experts.training has other defaults than the model it is made of.
    preset_free = resolve("ml-1m", user_layers(None, ["data.source=/x", "experts.training.steps=7"]))
    assert preset_free.experts.training.steps == 7
    plain = ThinkRecConfig.model_validate(merged(user_layers(None, ["experts.router.mode=soft"])))
    assert plain.experts.training == ThinkRecConfig().experts.training


def test_nested_and_dotted_overrides_are_the_same() -> None:
    dotted = load_config("quickstart", {"training.engine.zero_stage": 2, "training.steps": 7})
    assert dotted == load_config("quickstart", {"training": {"engine": {"zero_stage": 2}, "steps": 7}})


def test_what_the_command_line_hands_to_the_flow_gives_the_same_configuration(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("evaluation:\n  rungs: [bias, encoder]\n  floor: bias\n")
    layers = user_layers(file, ["training.learning_rate=2e-4", "data.max_users="])
    assert load_config("quickstart", merged(layers)) == resolve("quickstart", layers)


def test_a_snapshot_takes_the_place_of_the_source() -> None:
    assert load_config("quickstart", {"data.source": "/old"}, snapshot="/new").data.source == "/new"


@pytest.mark.parametrize(
    ("assignment", "field", "value"),
    [
        ("training.learning_rate=2e-4", "training.learning_rate", 2e-4),
        ("data.source=2024", "data.source", "2024"),
        ("data.source=@odd: name", "data.source", "@odd: name"),
        ("teacher.base_url=http://h:1/v1", "teacher.base_url", "http://h:1/v1"),
        ("llm.score=yes", "llm.score", "yes"),
        ("llm.logit_offset=false", "llm.logit_offset", False),
        ("data.max_users=null", "data.max_users", None),
        ("evaluation.rungs=[bias]", "evaluation.rungs", ("bias",)),
        ("experts.training.steps=3", "experts.training.steps", 3),
    ],
)
def test_assignments(assignment: str, field: str, value: Any) -> None:
    found: Any = resolve("quickstart", user_layers(None, [assignment]))
    for name in field.split("."):
        found = getattr(found, name)
    assert found == value
    assert type(found) is type(value)


def test_every_field_can_be_assigned_its_own_value() -> None:
    config = load_config("quickstart")
    for name in field_names():
        value: Any = config
        for part in name.split("."):
            value = getattr(value, part)
        layer = {name: list(value) if isinstance(value, tuple) else value}
        assert load_config("quickstart", layer) == config, name


@pytest.mark.parametrize(
    ("preset", "close"),
    [("quikstart", "did you mean quickstart?"), ("smok", "did you mean smoke?"), ("", "expected one of")],
)
def test_unknown_preset(preset: str, close: str) -> None:
    told = said(preset)
    assert repr(preset) in told
    assert close in told
    assert all(name in told for name in preset_names())


@pytest.mark.parametrize(
    ("assignment", "parts"),
    [
        ("training.learnin_rate=1", ["training.learnin_rate", "did you mean training.learning_rate?"]),
        ("training.engine.zero_stag=1", ["training.engine.zero_stag", "did you mean training.engine.zero_stage?"]),
        ("zero_stage=1", ["zero_stage is not a field", "did you mean training.engine.zero_stage?"]),
        ("qqqq=1", ["qqqq is not a field", "seed, data, encoder", "thinkrec config"]),
        ("seed.x=1", ["seed.x is not a field"]),
        ("training=3", ["training is 3", "training.learning_rate"]),
        ("seed=abc", ["seed is 'abc'", "valid integer"]),
        ("encoder.kind=masrec", ["no encoder masrec", "expected mf, lightgcn, sasrec, din, dcn"]),
        ("evaluation.rungs=[encodr]", ["evaluation.rungs[0] is 'encodr'", "did you mean encoder?"]),
        ("training.learning_rate=1e-9", ["min_learning_rate", "exceeds learning_rate 1e-09"]),
        ("teacher.max_tokens=99999", ["max_tokens 99999 exceeds max_tokens_limit"]),
        ("training.learning_rate=inf", ["training.learning_rate is 'inf'"]),
        ("training.learning_rate=.inf", ["training.learning_rate is inf"]),
        ("foo", ["foo is no assignment", "field=value"]),
        ("data.source=", ["data.source= has no value"]),
        ("seed=[1", ["not readable YAML"]),
    ],
)
def test_a_mistake_is_one_line_that_names_it(assignment: str, parts: list[str]) -> None:
    told = said("quickstart", assignment)
    assert told.startswith(f"--set {assignment}")
    for part in parts:
        assert part in told


def test_an_error_names_the_layer_that_holds_the_value(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("encoder:\n  epochs: many\n")
    assert f"--config {file}: encoder.epochs is 'many'" in said("quickstart", "seed=1", file=file)


def test_the_number_of_further_mistakes_is_told() -> None:
    assert "1 more" in said("quickstart", "seed=a", "encoder.epochs=b")


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    assert "No such file" in said(file=tmp_path / "none.yaml")
    binary = tmp_path / "binary.yaml"
    binary.write_bytes(b"\xff\xfe\x00")
    assert "not UTF-8" in said(file=binary)
    listing = tmp_path / "list.yaml"
    listing.write_text("- a\n- b\n")
    assert "a mapping of fields" in said(file=listing)


def test_an_empty_file_and_an_empty_heading_change_nothing(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("# nothing\n")
    assert resolve("smoke", user_layers(file, [])) == load_config("smoke")
    file.write_text("training:\n  # steps: 3\n")
    assert resolve("smoke", user_layers(file, [])) == load_config("smoke")


def test_the_projector_may_not_ask_for_rows_of_its_own() -> None:
    with pytest.raises(ConfigError, match=r"projector\.train_rows 8 differs from train_rows 32"):
        load_config("smoke", {"training.projector.train_rows": 8})
