"""LoRA: published sizes, a start that changes nothing, and exactly the wanted layers trained."""

from __future__ import annotations

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from tests.tiny_model import tiny_causal
from thinkrec_core.errors import ModelError
from thinkrec_core.recllm.adapters import add_lora, layer_of, lora_parameter_count, train_only

TARGETS = ("q_proj", "v_proj")


def tiny_lora(seed: int = 1) -> torch.nn.Module:
    return add_lora(tiny_causal(), 8, 16, 0.05, TARGETS, seed)


def test_llama_3_8b_has_the_published_number_of_lora_weights() -> None:
    config = LlamaConfig(
        vocab_size=128_256,
        hidden_size=4096,
        intermediate_size=14_336,
        num_hidden_layers=32,
        num_attention_heads=32,
        num_key_value_heads=8,
    )
    with torch.device("meta"):
        lm = add_lora(LlamaForCausalLM(config), 8, 16, 0.05, TARGETS, seed=0)
    assert lora_parameter_count(lm) == 3_407_872
    train_only(lm, lora=True, from_layer=24)
    assert sum(parameter.numel() for parameter in lm.parameters() if parameter.requires_grad) == 851_968


def test_a_fresh_adapter_leaves_the_lm_as_it_is() -> None:
    ids = torch.tensor([[0, 5, 9, 30]])
    with torch.no_grad():
        assert torch.equal(tiny_lora().eval()(ids).logits, tiny_causal()(ids).logits)


def test_the_seed_alone_decides_the_start() -> None:
    torch.manual_seed(11)
    state = torch.random.get_rng_state()
    one = tiny_lora(1).state_dict()
    assert torch.equal(torch.random.get_rng_state(), state)
    torch.manual_seed(12)
    same, other = tiny_lora(1).state_dict(), tiny_lora(2).state_dict()
    first = next(name for name in one if "lora_A" in name)
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not torch.equal(one[first], other[first])


@pytest.mark.parametrize(("lora", "layer", "expected"), [(True, 0, {0, 1, 2, 3}), (True, 3, {3}), (False, 0, set())])
def test_only_the_wanted_layers_train(lora: bool, layer: int, expected: set[int]) -> None:
    lm = tiny_lora()
    train_only(lm, lora, layer)
    trained = [name for name, parameter in lm.named_parameters() if parameter.requires_grad]
    assert all("lora_" in name for name in trained)
    assert {layer_of(name) for name in trained} == expected


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("base_model.model.model.layers.17.self_attn.q_proj.lora_A.default.weight", 17),
        ("transformer.h.3.attn.c_attn.lora_B.default.weight", 3),
        ("model.embed_tokens.weight", -1),
    ],
)
def test_layer_of_a_parameter_name(name: str, layer: int) -> None:
    assert layer_of(name) == layer


def test_unknown_target_modules_are_named() -> None:
    with pytest.raises(ModelError, match="query_key_value") as caught:
        add_lora(tiny_causal(), 8, 16, 0.0, ("query_key_value",), seed=0)
    assert "\n" not in str(caught.value)
