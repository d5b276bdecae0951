"""Stacked adapters against the unmodified PEFT library and against merged weights in double precision."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import PeftModel
from peft.tuners.lora.layer import LoraLayer
from transformers import LlamaForCausalLM

from storage.assets import smollm2_folder
from storage.language_model import adapter_weights, load_base, save_adapter
from tests.tiny_model import randomise_lora, tiny_causal
from thinkrec_core.errors import ModelError
from thinkrec_core.experts.stacked import AdapterWeights, Gates, stack_adapters, unstack_adapters
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


def merged(states: list[AdapterWeights], weights: torch.Tensor, causal: Any = None) -> Any:
    """The LM in float64 (or `causal`, in its type) with W + sum_n w_n (alpha/r) B_n A_n written into its weights."""
    causal = tiny_causal().double() if causal is None else causal
    for path in {name.rpartition(".lora_")[0] for name in states[0]}:
        weight = causal.get_submodule(path.removeprefix("base_model.model.")).weight
        for state, share in zip(states, weights, strict=True):
            a, b = (state[f"{path}.lora_{part}.weight"].double() for part in "AB")
            weight.data += (float(share) * SCALING * (b @ a)).to(weight.dtype)
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
    gates = torch.rand(len(IDS), ADAPTERS, generator=torch.Generator().manual_seed(4))
    gates[0], gates[1] = torch.tensor([1.0, 0, 0]), torch.tensor([0, 0.5, 0.5])
    gates /= gates.sum(dim=1, keepdim=True)
    alike = logits(stacked(states), one_hot(1))
    torch.testing.assert_close(logits(stacked([states[1]] * ADAPTERS), gates), alike, atol=1e-5, rtol=1e-5)
    # With a copy for each, as a training has them.
    causal, own = tiny_causal(), Gates(ADAPTERS)
    stack_adapters(causal, [states[1]] * ADAPTERS, SCALING, own, trainable=True)
    torch.testing.assert_close(logits((causal, own), gates), alike, atol=1e-5, rtol=1e-5)


def test_permuting_a_batch_permutes_its_results(states: list[AdapterWeights]) -> None:
    weights = torch.rand(len(IDS), ADAPTERS, generator=torch.Generator().manual_seed(2))
    order = torch.tensor([3, 0, 4, 1, 2])
    stack = stacked(states)
    straight, permuted = logits(stack, weights), logits(stack, weights[order], IDS[order])
    torch.testing.assert_close(permuted, straight[order], atol=1e-5, rtol=1e-5)


class PlainPeft:
    """Adapters "0", "1", ... in PEFT itself, all active, where the gates of a single row become the scalings."""

    def __init__(self, causal: Any, states: list[AdapterWeights]) -> None:
        self.model = add_lora(causal, RANK, ALPHA, 0.0, ("q_proj", "v_proj"), 0)
        for number, state in enumerate(states):
            self.model.add_adapter(str(number), self.model.peft_config["default"])
            for name, value in state.items():
                self.parameter(name, number).data = value.to(causal.dtype).clone()
        self.model.delete_adapter("default")
        self.names = [str(number) for number in range(len(states))]
        self.model.base_model.set_adapter(self.names)
        self.model.eval()

    def parameter(self, name: str, number: int) -> torch.nn.Parameter:
        """The parameter of adapter `number` that its state calls `name`."""
        parameter: torch.nn.Parameter = self.model.get_parameter(name.replace(".weight", f".{number}.weight"))
        return parameter

    def logits(self, ids_T: torch.Tensor, weights_N: torch.Tensor) -> torch.Tensor:
        """(T, V) of one row."""
        for module in self.model.modules():
            if isinstance(module, LoraLayer):
                module.scaling = {name: SCALING * float(weights_N[int(name)]) for name in self.names}
        logits_BTV: torch.Tensor = self.model(ids_T[None]).logits
        return logits_BTV[0]


def mixed_gates() -> torch.Tensor:
    """Gates of each kind: a mixture, one expert, a share that is zero, the untrained LM, beyond a sum of one."""
    return torch.tensor([[0.2, 0.5, 0.3], [0, 1, 0], [0.6, 0, 0.4], [0, 0, 0], [0.9, 0.8, 0.1]], dtype=torch.float64)


def test_gradients_of_a_mixed_batch_are_those_of_peft_weighted_by_the_gates() -> None:
    causal, gates = tiny_causal().double().requires_grad_(False), Gates(ADAPTERS)
    stack_adapters(causal, RANDOM, SCALING, gates, trainable=True)
    pull = torch.randn(*IDS.shape, causal.config.vocab_size, generator=torch.Generator().manual_seed(3)).double()
    gates.set(mixed_gates())
    (causal(IDS).logits * pull).mean(dim=(1, 2)).sum().backward()
    trained = {name: value.grad for name, value in causal.named_parameters() if value.requires_grad}
    assert len(trained) == 16  # A and B of q and v of 4 layers; W is frozen

    plain = PlainPeft(tiny_causal().double(), RANDOM)
    for ids_T, weights_N, pull_TV in zip(IDS, mixed_gates(), pull, strict=True):
        (plain.logits(ids_T, weights_N) * pull_TV).mean().backward()
    for number, state in enumerate(RANDOM):
        part = slice(number * RANK, (number + 1) * RANK)
        for name in state:
            expected = plain.parameter(name, number).grad
            inner, _, kind = name.removeprefix("base_model.model.").removesuffix(".weight").rpartition(".lora_")
            got = trained[f"{inner}.a_stack_RI"][part] if kind == "A" else trained[f"{inner}.b_stack_OR"][:, part]
            assert float(expected.abs().max()) > 1e-6
            torch.testing.assert_close(got, expected, atol=1e-9, rtol=1e-9)


def test_an_expert_that_no_row_uses_learns_nothing() -> None:
    causal, gates = tiny_causal().requires_grad_(False), Gates(ADAPTERS)
    stack_adapters(causal, RANDOM, SCALING, gates, trainable=True)
    gates.set(rows([0.5, 0.0, 0.5]))
    causal(IDS).logits.square().mean().backward()
    for name, value in causal.named_parameters():
        if value.requires_grad:
            experts = value.grad.chunk(ADAPTERS, dim=0 if name.endswith("a_stack_RI") else 1)
            assert [bool(gradient.any()) for gradient in experts] == [True, False, True], name


@pytest.mark.parametrize("trainable", [False, True])
def test_unstacking_gives_the_peft_tensors_back(states: list[AdapterWeights], trainable: bool) -> None:
    # Below the last layers adapter 2 repeats adapter 0, and all agree on layer 0, of which one copy is kept.
    repeated = [
        {name: states[0 if ".layers.0." in name else number][name] for name in states[0]} for number in (0, 1, 2)
    ]
    causal = tiny_causal()
    stack_adapters(causal, repeated, SCALING, Gates(ADAPTERS), trainable)
    assert causal.model.layers[0].self_attn.q_proj.copies == (ADAPTERS if trainable else 1)
    back = unstack_adapters(causal)
    assert len(back) == ADAPTERS
    for got, expected in zip(back, repeated, strict=True):
        assert set(got) == set(expected)
        assert all(torch.equal(got[name], expected[name]) for name in expected)
    assert unstack_adapters(tiny_causal()) == []


@torch.no_grad()
def test_a_layer_on_which_all_agree_keeps_one_copy_and_the_same_results(states: list[AdapterWeights]) -> None:
    agreeing = [{name: states[0 if ".layers.3." not in name else n][name] for name in states[0]} for n in (0, 1, 2)]
    causal, gates = stacked(agreeing)
    layer = causal.model.layers[1].self_attn.q_proj
    assert (layer.copies, causal.model.layers[3].self_attn.q_proj.copies) == (1, ADAPTERS)
    assert layer.b_stack_OR.untyped_storage().nbytes() == layer.b_stack_OR.numel() * 4
    every = tiny_causal(), Gates(ADAPTERS)
    stack_adapters(every[0], agreeing, SCALING, every[1], trainable=True)
    torch.testing.assert_close(
        logits((causal, gates), mixed_gates()), logits(every, mixed_gates()), atol=1e-5, rtol=1e-5
    )


@pytest.mark.slow
@torch.no_grad()
def test_a_mixed_batch_of_a_real_lm_is_peft_and_the_materialised_fusion_row_by_row() -> None:
    folder = smollm2_folder()
    causal, gates = load_base(folder, torch.float32), Gates(ADAPTERS)
    sizes = {
        f"base_model.model.{name}": (module.in_features, module.out_features)
        for name, module in causal.named_modules()
        if name.endswith(("q_proj", "v_proj"))
    }
    draw = torch.Generator().manual_seed(5)
    real: list[AdapterWeights] = [
        {
            name: 0.02 * torch.randn(shape, generator=draw)
            for path, (size_in, size_out) in sizes.items()
            for name, shape in (
                (f"{path}.lora_A.weight", (RANK, size_in)),
                (f"{path}.lora_B.weight", (size_out, RANK)),
            )
        }
        for _ in range(ADAPTERS)
    ]
    assert stack_adapters(causal, real, SCALING, gates) == 60  # q and v of 30 layers
    ids = torch.randint(100, 40_000, (len(IDS), 24), generator=draw)
    got = logits((causal, gates), mixed_gates(), ids)
    bare = logits((causal, gates), torch.zeros(len(ids), ADAPTERS), ids)
    plain = PlainPeft(load_base(folder, torch.float32), real)
    expected = torch.stack([plain.logits(*row) for row in zip(ids, mixed_gates(), strict=True)])
    assert float((expected[0] - bare[0]).abs().max()) > 0.1
    torch.testing.assert_close(got, expected, atol=1e-4, rtol=1e-4)
    for row, weights in zip(range(len(ids)), mixed_gates(), strict=True):
        whole = merged(real, weights, load_base(folder, torch.float32))
        torch.testing.assert_close(got[row], whole(ids[row : row + 1]).logits[0], atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_a_half_precision_body_computes_its_adapters_likewise_unless_they_train(states: list[AdapterWeights]) -> None:
    layers = {}
    for trainable in (False, True):
        causal, gates = tiny_causal().bfloat16(), Gates(ADAPTERS)
        stack_adapters(causal, states, SCALING, gates, trainable)
        gates.set(mixed_gates())
        layers[trainable] = causal.model.layers[0].self_attn.q_proj
        expected = torch.stack([merged(states, own)(IDS[n : n + 1]).logits[0] for n, own in enumerate(mixed_gates())])
        found = causal(IDS).logits
        assert found.dtype == torch.bfloat16
        bare = tiny_causal().bfloat16()(IDS).logits.double()
        assert float((found.double() - expected).abs().mean()) < 0.1 * float((bare - expected).abs().mean())
    assert (layers[False].a_stack_RI.dtype, layers[True].a_stack_RI.dtype) == (torch.bfloat16, torch.float32)


@torch.no_grad()
def test_cross_terms_are_the_linear_combination_of_peft(states: list[AdapterWeights], folders: list[Path]) -> None:
    shares = [0.2, 0.5, 0.3]
    peft = PeftModel.from_pretrained(tiny_causal(), str(folders[0]), adapter_name="0")
    for number in (1, 2):
        peft.load_adapter(str(folders[number]), str(number))
    peft.add_weighted_adapter(["0", "1", "2"], shares, "merged", combination_type="linear")
    peft.set_adapter("merged")
    expected = peft.double().eval()(IDS).logits
    causal, gates = stacked(states, torch.float64)
    gates.set(rows(shares).double(), cross_terms=True)
    torch.testing.assert_close(causal(IDS).logits, expected, atol=1e-4, rtol=1e-4)  # PEFT merged in fp32
    assert float((logits((causal, gates), rows(shares).double()) - expected).abs().max()) > 0.1
    gates.set(one_hot(1).double(), cross_terms=True)
    torch.testing.assert_close(causal(IDS).logits, logits((causal, gates), one_hot(1).double()))
    causal, gates = stacked([states[0]] * ADAPTERS)  # identical experts: one copy is kept, and comes out too strong
    gates.set(rows(shares), cross_terms=True)
    strong = sum(share**0.5 for share in shares) ** 2
    torch.testing.assert_close(causal(IDS).logits, logits((causal, gates), strong * one_hot(0)), atol=1e-4, rtol=1e-4)


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
