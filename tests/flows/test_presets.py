from __future__ import annotations

import pytest

from flows.config import load_config
from flows.config_layers import field_names
from flows.presets import preset_names, read_preset
from thinkrec_core.errors import ConfigError

GIVEN = {"data.source": "/data", "llm.model": "/model", "teacher.base_url": "http://127.0.0.1:8000/v1"}


def test_the_promised_presets_exist() -> None:
    assert preset_names() == (
        "amazon-book", "kill", "llama3-8b", "ml-1m", "ml-1m-raw", "quickstart", "smoke", "synthetic", "yelp",
    )  # fmt: skip


@pytest.mark.parametrize("name", preset_names())
class TestEachPreset:
    def test_is_a_valid_configuration(self, name: str) -> None:
        preset = read_preset(name)
        config = load_config(name, {field: GIVEN[field] for field in preset.requires})
        assert config != load_config("quickstart") or name == "quickstart"

    def test_says_how_it_is_run_and_what_to_expect(self, name: str) -> None:
        header = read_preset(name).header
        assert header.startswith(f"thinkrec run --preset {name}")
        for word in ("Hardware", "Time", "Data", "Models", "Expect"):
            assert f"\n{word} " in header, f"{name} does not tell {word}"

    def test_requires_only_fields_that_exist(self, name: str) -> None:
        assert set(read_preset(name).requires) <= set(field_names())


@pytest.mark.parametrize("name", [name for name in preset_names() if read_preset(name).requires])
def test_a_preset_without_its_required_fields_says_which(name: str) -> None:
    first = next(iter(read_preset(name).requires))
    with pytest.raises(ConfigError, match=rf"preset {name} needs {first}"):
        load_config(name)


def test_quickstart_is_what_the_demo_promises() -> None:
    config = load_config("quickstart")
    assert config.data.source == "ml-100k"
    assert config.wrong_predictions.student == "encoder"
    assert config.training.schedule == "joint"
    assert config.training.prior == "encoder"
    assert config.evaluation.test_rows is not None
    assert config.evaluation.test_rows >= 300
    assert config.reflections.min_accepted == 16
    assert {"thinkrec_experts", "thinkrec_experts_llm"} <= set(config.evaluation.rungs)


def test_llama3_8b_holds_the_published_settings() -> None:
    config = load_config("llama3-8b", GIVEN)
    assert config.llm.lora.model_dump() == {
        "rank": 8,
        "alpha": 16.0,
        "dropout": 0.05,
        "target_modules": ("q_proj", "v_proj"),
    }
    stages = (config.training, config.training.projector, config.warm_start)
    for stage in stages:
        rates = (stage.warmup_learning_rate, stage.learning_rate, stage.min_learning_rate, stage.warmup_steps)
        assert rates == (1e-5, 1e-4, 8e-5, 200)
        assert stage.steps == 50 * 800
    experts = config.experts.training
    assert (experts.warmup_learning_rate, experts.learning_rate, experts.steps) == (1e-6, 1e-5, 30 * 800)
    assert (config.experts.count, config.experts.last_layers, config.experts.clustering) == (2, 8, "ward")
    assert config.training.select_by == "auc/4+uauc/3"
    assert config.wrong_predictions.rows == 4500
    assert (config.training.engine.zero_stage, config.training.engine.world_size) == (2, 8)
    assert config.teacher.style == "reasoning"
