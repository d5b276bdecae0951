"""Targets scored behind a shared beginning have the scores of whole prompts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.tiny_model import randomise_lora
from tests.tiny_recllm import OPTIONS, Tiny, tiny_recllm
from thinkrec_core.experts.stacked import Gates, stack_adapters
from thinkrec_core.recllm.examples import Example, ExampleFactory
from thinkrec_core.recllm.prefix import score_targets, shared_length
from thinkrec_core.recllm.prompt import PromptBuilder
from thinkrec_core.recllm.records import Samples
from thinkrec_core.recllm.scoring import score_examples

TARGETS = 9


def candidates(tiny: Tiny, history: bool = True, chat: bool = False, slots: bool = True) -> list[Example]:
    """Prompts of one user and one history with a target each, as a re-ranking has them."""
    n_tokens = tiny.model.projector.n_tokens
    options = replace(OPTIONS, n_tokens=n_tokens, history_slots=slots, chat=chat)
    prompts = PromptBuilder(tiny.pieces, tiny.world.texts, options)
    train = tiny.world.samples["train"]
    row = int(np.diff(train.history_offsets).argmax())
    items, labels = train.history(row, 6) if history else ([], [])
    repeated = np.tile(np.asarray(items, np.int64), TARGETS)
    samples = Samples(
        user_idx=np.full(TARGETS, train.user_idx[row]),
        item_idx=np.arange(1, TARGETS + 1),
        label=np.zeros(TARGETS, np.int64),
        history_offsets=np.arange(TARGETS + 1) * len(items),
        history_items=repeated,
        history_labels=np.tile(np.asarray(labels, np.int64), TARGETS),
        encoder_logit=np.linspace(-1, 1, TARGETS),
    )
    factory = ExampleFactory(prompts, tiny.signals, tiny.model.answers, samples, True, 64)
    return [factory.make(place, "id") for place in range(TARGETS)]


@pytest.mark.parametrize("history", [True, False])
@pytest.mark.parametrize("n_tokens", [1, 3])
@pytest.mark.parametrize("batch_size", [1, 4, 50])
def test_scores_are_those_of_whole_prompts(history: bool, n_tokens: int, batch_size: int) -> None:
    tiny = tiny_recllm(n_tokens)
    tiny.model.double()
    examples = candidates(tiny, history)
    # Everything before the target's title is shared, the user's soft tokens among it.
    length = shared_length(examples, n_tokens)
    assert examples[0].prompt.slots[0].position + n_tokens < length
    assert length > 0.4 * len(examples[0].prompt.ids)
    whole = score_examples(tiny.model, examples, tiny.pieces.pad_id, 4)
    shared = score_targets(tiny.model, examples, tiny.pieces.pad_id, batch_size)
    np.testing.assert_allclose(shared, whole, atol=1e-9)
    assert np.ptp(whole) > 0.01


def test_each_user_keeps_the_route() -> None:
    tiny = tiny_recllm(lora=False)
    from peft import get_peft_model_state_dict

    states = []
    for seed in (1, 2):
        other = tiny_recllm().model
        randomise_lora(other.lm, seed=seed)
        states.append(get_peft_model_state_dict(other.lm))
    gates = Gates(2)
    stack_adapters(tiny.model.causal, states, 2.0, gates)
    examples = candidates(tiny)
    weights = torch.tensor([[0.3, 0.7]])

    def set_gates(rows: np.ndarray) -> None:
        gates.set(weights.expand(len(rows), 2))

    whole = score_examples(tiny.model, examples, tiny.pieces.pad_id, 4, set_gates)
    np.testing.assert_allclose(score_targets(tiny.model, examples, tiny.pieces.pad_id, 4, set_gates), whole, atol=1e-5)


def test_what_is_shared_ends_before_a_slot_whose_inputs_differ() -> None:
    tiny = tiny_recllm()
    examples = candidates(tiny)
    start = examples[0].prompt.slots[0].position
    other = replace(examples[1], slot_inputs=examples[1].slot_inputs + 1)
    assert shared_length([examples[0], other], 1) == start
    # Equal ids, but a soft token on one side only.
    bare = replace(examples[1], prompt=replace(examples[1].prompt, slots=()), slot_inputs=examples[1].slot_inputs[:0])
    assert shared_length([examples[0], bare], 1) <= start
    assert shared_length([bare, examples[0]], 1) <= start
    assert shared_length([examples[0]], 1) <= len(examples[0].prompt.ids) - 1


def test_prompts_without_a_common_beginning_are_scored_whole() -> None:
    tiny = tiny_recllm()
    examples = candidates(tiny)
    turned = replace(examples[1].prompt, ids=(5 + examples[0].prompt.ids[0], *examples[1].prompt.ids[1:]))
    mixed = [examples[0], replace(examples[1], prompt=turned)]
    assert shared_length(mixed, 1) == 0
    whole = score_examples(tiny.model, mixed, tiny.pieces.pad_id, 2)
    np.testing.assert_allclose(score_targets(tiny.model, mixed, tiny.pieces.pad_id, 2), whole, atol=1e-6)


def test_a_score_that_is_not_finite_is_an_error() -> None:
    tiny = tiny_recllm()
    with torch.no_grad():
        tiny.model.projector.outer.bias[0] = torch.nan
    with pytest.raises(ValueError, match="9 of 9 scores are not finite"):
        score_targets(tiny.model, candidates(tiny), tiny.pieces.pad_id, 4)
