"""Gate settings that share their lower layers score as full forwards do."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from tests.tiny_model import randomise_lora, tiny_causal
from tests.tiny_recllm import Tiny, tiny_recllm
from tests.user_rows import rows_of_users
from thinkrec_core.experts.shared_depth import score_gated, score_settings
from thinkrec_core.experts.stacked import Gates, stack_adapters
from thinkrec_core.recllm.adapters import add_lora, layer_of
from thinkrec_core.recllm.examples import Batch, collate
from thinkrec_core.recllm.scoring import score_examples

LAYERS, SHARED, BATCH = 4, 2, 6


@pytest.fixture(scope="module")
def stack() -> tuple[Tiny, Gates, Batch]:
    """General adapter and two experts that differ from it in the last two layers only."""
    general = lora_state(0)
    experts = [
        {name: (general if layer_of(name) < SHARED else own)[name] for name in own} for own in map(lora_state, (1, 2))
    ]
    tiny, gates = tiny_recllm(lora=False), Gates(3)
    stack_adapters(tiny.model.lm, [general, *experts], 2.0, gates)
    examples = [tiny.factory(with_prior=True).make(row, "id") for row in range(BATCH)]
    return tiny, gates, collate(examples, tiny.pieces.pad_id, 1, with_answers=False)


def lora_state(seed: int, modules: tuple[str, ...] = ("q_proj", "v_proj")) -> dict[str, torch.Tensor]:
    lm = add_lora(tiny_causal(), 4, 8, 0.0, modules, seed)
    randomise_lora(lm, seed, scale=0.3)
    return {name.replace(".default", ""): value for name, value in lm.state_dict().items() if "lora_" in name}


def gate_settings() -> list[torch.Tensor]:
    mixed = torch.rand(BATCH, 3, generator=torch.Generator().manual_seed(1))
    return [torch.eye(3)[0].expand(BATCH, -1), torch.eye(3)[2].expand(BATCH, -1), mixed / mixed.sum(1, keepdim=True)]


def full(tiny: Tiny, gates: Gates, batch: Batch) -> torch.Tensor:
    scores = []
    for weights in gate_settings():
        gates.set(weights)
        with torch.no_grad():
            scores.append(tiny.model.score(batch))
    return torch.stack(scores)


@pytest.mark.parametrize("shared", [0, 1, SHARED])
def test_shared_layers_change_no_score(stack: tuple[Tiny, Gates, Batch], shared: int) -> None:
    tiny, gates, batch = stack
    expected = full(tiny, gates, batch)
    assert float((expected[0] - expected[1]).abs().max()) > 1e-2
    got = score_settings(tiny.model, gates, batch, gate_settings(), shared)
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-5)


def test_lower_layers_run_once_and_the_model_is_left_as_it_was(stack: tuple[Tiny, Gates, Batch]) -> None:
    tiny, gates, batch = stack
    body = tiny.model.causal.base_model
    calls = dict.fromkeys(range(LAYERS), 0)
    seen: list[int] = []

    def count(layer: int) -> Any:
        def hook(_module: Any, given: Any, _out: Any) -> None:
            calls[layer] += 1
            if layer == LAYERS - 1:
                seen.append(len(given[0]))

        return hook

    handles = [layer.register_forward_hook(count(number)) for number, layer in enumerate(body.layers)]
    before = (body.layers, body.norm, body.config.num_hidden_layers)
    score_settings(tiny.model, gates, batch, gate_settings(), SHARED)
    assert calls == {0: 1, 1: 1, 2: 3, 3: 3}
    # Rows that an earlier setting had already are not computed again.
    first, second, third = gate_settings()
    third[1:] = torch.where(torch.arange(1, BATCH)[:, None] % 2 == 0, first[1:], second[1:])
    seen.clear()
    scores = score_settings(tiny.model, gates, batch, [first, second, third, first], SHARED)
    for handle in handles:
        handle.remove()
    assert seen == [BATCH, BATCH, 1]
    assert torch.equal(scores[3], scores[0])
    assert torch.equal(scores[2, 2::2], scores[0, 2::2])
    assert torch.equal(scores[2, 1::2], scores[1, 1::2])
    assert (body.layers, body.norm, body.config.num_hidden_layers) == before


def test_the_model_is_left_as_it_was_after_an_error(stack: tuple[Tiny, Gates, Batch]) -> None:
    tiny, gates, batch = stack
    body = tiny.model.causal.base_model
    before = (body.layers, body.norm, body.config.num_hidden_layers)
    with pytest.raises(ValueError, match="gates of shape"):
        score_settings(tiny.model, gates, batch, [gate_settings()[0], torch.zeros(BATCH, 2)], SHARED)
    broken = replace(batch, answer_start_B=batch.answer_start_B + 999)
    with pytest.raises(IndexError):
        score_settings(tiny.model, gates, broken, gate_settings(), SHARED)
    assert (body.layers, body.norm, body.config.num_hidden_layers) == before


def test_rows_of_many_users_are_scored_under_their_own_gates(stack: tuple[Tiny, Gates, Batch]) -> None:
    tiny, gates, _ = stack
    examples = rows_of_users(tiny)
    by_user = torch.rand(4, 3, generator=torch.Generator().manual_seed(2)).double().numpy()
    by_user /= by_user.sum(axis=1, keepdims=True)
    users = np.array([example.user for example in examples])
    general = np.eye(3)[np.zeros(len(users), int)]
    settings = [general, by_user[users], np.where(users[:, None] == 2, general, by_user[users][:, ::-1])]
    done: list[int] = []
    pad_id = tiny.pieces.pad_id
    found = score_gated(tiny.model, gates, examples, settings, pad_id, 4, SHARED, progress=done.append)
    for setting, scores in zip(settings, found, strict=True):
        weights = torch.tensor(setting, dtype=torch.float32)
        alone = score_examples(tiny.model, examples, pad_id, 1, lambda rows, weights=weights: gates.set(weights[rows]))
        np.testing.assert_allclose(scores, alone, atol=2e-5)
    assert np.abs(found[1] - found[0]).max() > 1e-2
    assert (done[-1], done == sorted(done), len(done) > 1) == (len(examples), True, True)
    order = np.random.default_rng(1).permutation(len(examples))
    mixed = [setting[order] for setting in settings]
    permuted = score_gated(tiny.model, gates, [examples[row] for row in order], mixed, pad_id, 4, SHARED)
    np.testing.assert_allclose(permuted, found[:, order], atol=2e-5)
    # Rows of one user under unequal gates never share a sequence.
    odd = [np.where(np.arange(len(users))[:, None] % 2 == 0, settings[1], general)]
    weights = torch.tensor(odd[0], dtype=torch.float32)
    alone = score_examples(tiny.model, examples, pad_id, 1, lambda rows: gates.set(weights[rows]))
    np.testing.assert_allclose(score_gated(tiny.model, gates, examples, odd, pad_id, 4)[0], alone, atol=2e-5)


@pytest.mark.parametrize("cross_terms", [False, True])
def test_adapters_of_every_module_keep_the_gates_of_their_tokens(cross_terms: bool) -> None:
    modules = ("q_proj", "o_proj", "gate_proj", "down_proj")
    tiny, gates = tiny_recllm(lora=False), Gates(2)
    stack_adapters(tiny.model.lm, [lora_state(1, modules), lora_state(2, modules)], 2.0, gates)
    examples, pad_id = rows_of_users(tiny), tiny.pieces.pad_id
    by_user = np.random.default_rng(0).dirichlet([1, 1], size=4)
    setting = by_user[[example.user for example in examples]]
    # The second setting changes one user only: the others' trees are not run again.
    later = np.where(np.array([[example.user == 2] for example in examples]), setting[:, ::-1], setting)
    found = score_gated(tiny.model, gates, examples, [setting, later], pad_id, 50, cross_terms=cross_terms)
    for given, scores in zip((setting, later), found, strict=True):
        weights = torch.tensor(given, dtype=torch.float32)
        alone = score_examples(
            tiny.model, examples, pad_id, 1, lambda rows, weights=weights: gates.set(weights[rows], cross_terms)
        )
        np.testing.assert_allclose(scores, alone, atol=2e-5)
    others = np.array([example.user != 2 for example in examples])
    assert np.array_equal(found[0, others], found[1, others])
    assert np.abs(found[0] - found[1])[~others].min() > 1e-4


def test_a_body_that_takes_no_trees_scores_whole_prompts(stack: tuple[Tiny, Gates, Batch]) -> None:
    tiny, gates, _ = stack
    examples, pad_id = rows_of_users(tiny), tiny.pieces.pad_id
    by_user = np.random.default_rng(0).dirichlet([1, 1, 1], size=4)
    settings = [by_user[[example.user for example in examples]], np.eye(3)[np.zeros(len(examples), int)]]
    expected = score_gated(tiny.model, gates, examples, settings, pad_id, 4, SHARED)
    config = tiny.model.causal.config
    config._attn_implementation = "eager"
    try:
        found = score_gated(tiny.model, gates, examples, settings, pad_id, 4, SHARED)
    finally:
        config._attn_implementation = "sdpa"
    np.testing.assert_allclose(found, expected, atol=2e-5)


def test_a_gated_score_that_is_not_finite_is_an_error(stack: tuple[Tiny, Gates, Batch]) -> None:
    tiny, gates, _ = stack
    examples = rows_of_users(tiny)
    broken = [replace(example, prior=float("nan")) for example in examples]
    with pytest.raises(ValueError, match="15 of 15 scores are not finite"):
        score_gated(tiny.model, gates, broken, [np.eye(3)[np.zeros(15, int)]], tiny.pieces.pad_id, 4)
