"""Stacked adapters against the unmodified PEFT library and against merged weights in double precision."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import PeftModel
from transformers import LlamaForCausalLM

from storage.language_model import adapter_weights, save_adapter
from tests.tiny_model import randomise_lora, tiny_causal
from thinkrec_core.errors import ModelError
from thinkrec_core.experts.stacked import AdapterWeights, Gates, stack_adapters
from thinkrec_core.recllm.adapters import add_lora

RANK, ALPHA, ADAPTERS = 4, 8, 3
SCALING = ALPHA / RANK
IDS = torch.randint(4, 400, (5, 11), generator=torch.Generator().manual_seed(7))


def adapter(folder: Path, seed: int) -> Path:
    """A trained-looking adapter, saved as the project saves them."""
    lm = add_lora(tiny_causal(), RANK, ALPHA, 0.05, ("q_proj", "v_proj"), seed)
    randomise_lora(lm, seed, scale=0.3)
    save_adapter(folder, lm)
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    root = tmp_path_factory.mktemp("adapters")
    return [adapter(root / str(seed), seed) for seed in range(ADAPTERS)]


@pytest.fixture(scope="module")
def states(folders: list[Path]) -> list[AdapterWeights]:
    return [adapter_weights(folder) for folder in folders]


def stacked(states: list[AdapterWeights], dtype: torch.dtype = torch.float32) -> tuple[LlamaForCausalLM, Gates]:
    causal, gates = tiny_causal().to(dtype), Gates(len(states))
    assert stack_adapters(causal, states, SCALING, gates) == 8  # q and v of 4 layers
    return causal, gates


@torch.no_grad()
def logits(stack: tuple[LlamaForCausalLM, Gates], weights: torch.Tensor, ids: torch.Tensor = IDS) -> torch.Tensor:
    causal, gates = stack
    gates.set(weights)
    return causal(ids).logits


def rows(weights: list[float]) -> torch.Tensor:
    """The same gates for every row of the batch."""
    return torch.tensor([weights]).expand(len(IDS), -1)


def one_hot(number: int) -> torch.Tensor:
    return torch.eye(ADAPTERS)[number].expand(len(IDS), -1)


@torch.no_grad()
@pytest.mark.parametrize("number", range(ADAPTERS))
def test_one_hot_gates_are_the_adapter_as_peft_loads_it(
    folders: list[Path], states: list[AdapterWeights], number: int
) -> None:
    expected = PeftModel.from_pretrained(tiny_causal(), folders[number]).eval()(IDS).logits
    assert float((expected - tiny_causal()(IDS).logits).abs().max()) > 0.1
    torch.testing.assert_close(logits(stacked(states), one_hot(number)), expected, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_zero_gates_are_the_bare_lm(states: list[AdapterWeights]) -> None:
    assert torch.equal(logits(stacked(states), torch.zeros(len(IDS), ADAPTERS)), tiny_causal()(IDS).logits)


def merged(states: list[AdapterWeights], weights: torch.Tensor) -> LlamaForCausalLM:
    """The LM in float64 with W + sum_n w_n (alpha/r) B_n A_n written into its weights."""
    causal = tiny_causal().double()
    for path in {name.rpartition(".lora_")[0] for name in states[0]}:
        weight = causal.get_submodule(path.removeprefix("base_model.model.")).weight
        for state, share in zip(states, weights, strict=True):
            a, b = (state[f"{path}.lora_{part}.weight"].double() for part in "AB")
            weight.data += share * SCALING * (b @ a)
    return causal


@torch.no_grad()
@settings(max_examples=10, deadline=None)
@given(st.lists(st.lists(st.floats(-1, 2), min_size=ADAPTERS, max_size=ADAPTERS), min_size=len(IDS), max_size=len(IDS)))
def test_any_gates_are_the_exact_fusion_of_each_row(weights: list[list[float]]) -> None:
    gates = torch.tensor(weights, dtype=torch.float64)
    got = logits(DOUBLE, gates)
    for number, own in enumerate(gates):
        expected = merged(RANDOM, own)(IDS[number : number + 1]).logits[0]
        torch.testing.assert_close(got[number], expected, atol=1e-9, rtol=1e-9)


@torch.no_grad()
def test_identical_experts_are_that_expert(states: list[AdapterWeights]) -> None:
    # PEFT's "linear" merge fails here: its cross terms make the sum about twice too strong.
    same = logits(stacked([states[1]] * ADAPTERS), rows([0.2, 0.5, 0.3]))
    torch.testing.assert_close(same, logits(stacked(states), one_hot(1)), atol=1e-5, rtol=1e-5)


def test_permuting_a_batch_permutes_its_results(states: list[AdapterWeights]) -> None:
    weights = torch.rand(len(IDS), ADAPTERS, generator=torch.Generator().manual_seed(2))
    order = torch.tensor([3, 0, 4, 1, 2])
    stack = stacked(states)
    straight, permuted = logits(stack, weights), logits(stack, weights[order], IDS[order])
    torch.testing.assert_close(permuted, straight[order], atol=1e-5, rtol=1e-5)


def test_gates_must_fit_and_be_set(states: list[AdapterWeights]) -> None:
    causal, gates = stacked(states)
    with pytest.raises(RuntimeError, match="gates must be set"):
        causal(IDS)
    with pytest.raises(ValueError, match=r"gates of shape \(5, 2\); expected \(B, 3\)"):
        gates.set(torch.zeros(5, 2))


def refusal(causal: LlamaForCausalLM, states: list[AdapterWeights], adapters: int | None = None) -> str:
    with pytest.raises(ModelError) as caught:
        stack_adapters(causal, states, SCALING, Gates(len(states) if adapters is None else adapters))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_adapters_of_another_model_are_refused(states: list[AdapterWeights]) -> None:
    assert "layers.2.self_attn" in refusal(tiny_causal(layers=2), states)
    assert "is 32 x 32" in refusal(tiny_causal(hidden=64), states)


def test_adapters_that_do_not_fit_each_other_are_refused(states: list[AdapterWeights]) -> None:
    fewer = {name: value for name, value in states[1].items() if "v_proj" not in name}
    assert "different modules" in refusal(tiny_causal(), [states[0], fewer])
    assert "2 adapters for 3 gates" in refusal(tiny_causal(), states[:2], adapters=3)
    narrow = {name: value[:2] if "lora_A" in name else value[:, :2] for name, value in states[1].items()}
    assert "rank" in refusal(tiny_causal(), [states[0], narrow])
    assert "no LoRA weights" in refusal(tiny_causal(), [{}, {}])


def _random_states() -> list[AdapterWeights]:
    """Adapters in memory, for the property above: a property takes no fixtures."""
    found: list[AdapterWeights] = []
    for seed in range(ADAPTERS):
        lm = add_lora(tiny_causal(), RANK, ALPHA, 0.0, ("q_proj", "v_proj"), seed)
        randomise_lora(lm, seed, scale=0.3)
        found.append(
            {name.replace(".default", ""): value.double() for name, value in lm.state_dict().items() if "lora_" in name}
        )
    return found


RANDOM = _random_states()
DOUBLE = stacked(RANDOM, torch.float64)
