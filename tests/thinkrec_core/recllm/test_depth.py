"""The last MLP where hidden states are read: the same scores, losses and gradients, from fewer positions."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest
import torch
from torch import nn

import thinkrec_core.recllm.model as model_module
from tests.tiny_model import randomise_lora, tiny_causal
from tests.tiny_recllm import Tiny, tiny_recllm
from tests.user_rows import rows_of_users
from thinkrec_core.experts.stacked import Gates, stack_adapters
from thinkrec_core.recllm.adapters import add_lora
from thinkrec_core.recllm.depth import last_mlp_only_at
from thinkrec_core.recllm.examples import Batch, collate
from thinkrec_core.recllm.trees import collate_trees, trees_of

ROWS = [17, 0, 42, 5]


def batch_of(tiny: Tiny, traces: bool) -> Batch:
    factory = tiny.factory(with_prior=True)
    made = [factory.make(row, "id", "The user liked comedies. " * row if traces else None) for row in ROWS]
    return collate(made, tiny.pieces.pad_id, 1)


@contextlib.contextmanager
def widths(body: nn.Module) -> Iterator[list[int]]:
    """Positions per row that the last MLP was given, forward by forward."""
    seen: list[int] = []
    hook = body.layers[-1].mlp.gate_proj.register_forward_pre_hook(lambda _, given: seen.append(given[0].shape[1]))
    try:
        yield seen
    finally:
        hook.remove()


@pytest.mark.parametrize("traces", [False, True])
def test_losses_and_gradients_are_those_of_the_whole_body(traces: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for whole in (False, True):
        tiny = tiny_recllm()
        tiny.model.double()
        if whole:
            monkeypatch.setattr(model_module, "last_mlp_only_at", lambda body, read: contextlib.nullcontext())
        batch = batch_of(tiny, traces)
        with widths(tiny.model.causal.base_model) as seen:
            sums = tiny.model(batch)
        # One answer token more than are fed is predicted, from the answer position on.
        expected = batch.input_ids_BT.shape[1] if whole else batch.targets_BL.shape[1]
        assert seen == [expected]
        (sums.bce + sums.ce).backward()
        grads = {name: value.grad for name, value in tiny.model.named_parameters() if value.grad is not None}
        found.append((sums, grads))
    (few, few_grads), (all_of_them, all_grads) = found
    torch.testing.assert_close((few.bce, few.ce), (all_of_them.bce, all_of_them.ce), atol=1e-10, rtol=1e-10)
    assert set(few_grads) == set(all_grads)
    assert any("lora_" in name for name in few_grads)
    torch.testing.assert_close(few_grads, all_grads, atol=1e-10, rtol=1e-8)


@torch.no_grad()
def test_scores_read_one_position_per_prompt() -> None:
    tiny = tiny_recllm()
    examples = rows_of_users(tiny)
    for batch in (
        collate_trees(examples, trees_of(examples, 1, 10**6), 1),
        collate(examples, tiny.pieces.pad_id, 1, with_answers=False),
    ):
        with widths(tiny.model.causal.base_model) as seen:
            few = tiny.model.score(batch)
            whole = tiny.model.score_hidden(tiny.model.hidden(batch), batch)
        torch.testing.assert_close(few, whole, atol=1e-5, rtol=1e-5)
        most = 1 if batch.forest is None else len(examples)
        assert seen == [most, batch.input_ids_BT.shape[1]]


@torch.no_grad()
def test_adapters_of_the_last_mlp_keep_the_gates_of_their_rows() -> None:
    tiny, gates = tiny_recllm(lora=False), Gates(2)
    states = []
    for seed in range(2):
        lm = add_lora(tiny_causal(), 4, 8, 0.0, ("q_proj", "gate_proj", "down_proj"), seed)
        randomise_lora(lm, seed, scale=0.3)
        states.append(
            {name.replace(".default", ""): value for name, value in lm.state_dict().items() if "lora_" in name}
        )
    stack_adapters(tiny.model.lm, states, 2.0, gates)
    batch = batch_of(tiny, traces=False)
    gates.set(torch.rand(len(ROWS), 2, generator=torch.Generator().manual_seed(1)))
    whole = tiny.model.score_hidden(tiny.model.hidden(batch), batch)
    torch.testing.assert_close(tiny.model.score(batch), whole, atol=1e-5, rtol=1e-5)
    gates.set(torch.rand(len(ROWS), 2, generator=torch.Generator().manual_seed(2)))
    assert float((tiny.model.score(batch) - whole).abs().min()) > 1e-4


@torch.no_grad()
def test_where_nothing_is_read_keys_and_values_are_all_there() -> None:
    body = tiny_causal().model
    ids = torch.arange(5, 17).view(2, 6)
    with last_mlp_only_at(body, torch.zeros(2, 6, dtype=torch.bool)), widths(body) as seen:
        cached = body(ids, use_cache=True).past_key_values
    whole = body(ids, use_cache=True).past_key_values
    assert seen == [0]
    for layer in range(len(body.layers)):
        torch.testing.assert_close(cached.layers[layer].keys, whole.layers[layer].keys)
        torch.testing.assert_close(cached.layers[layer].values, whole.layers[layer].values)


def test_layers_that_are_computed_again_in_the_backward_pass_run_whole() -> None:
    found = []
    for again in (False, True):
        tiny = tiny_recllm()
        tiny.model.lm.train()
        for module in tiny.model.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
        if again:
            tiny.model.causal.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        batch = batch_of(tiny, traces=True)
        with widths(tiny.model.causal.base_model) as seen:
            tiny.model(batch).ce.backward()
        assert set(seen) == {batch.input_ids_BT.shape[1] if again else batch.targets_BL.shape[1]}
        assert len(seen) == 1 + again
        found.append({name: value.grad for name, value in tiny.model.named_parameters() if "lora_" in name})
    torch.testing.assert_close(found[0], found[1], atol=1e-5, rtol=1e-4)
    assert any(float(grad.abs().max()) > 0 for grad in found[0].values())
