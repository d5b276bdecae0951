"""One score per sample, whatever stands beside it: against a sample alone, under both sides of padding, in any batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.functional import pad

from benchmarks.scoring import made_up
from tests.tiny_recllm import OPTIONS, Tiny, tiny_recllm
from thinkrec_core.recllm.examples import Example, ExampleFactory, collate
from thinkrec_core.recllm.model import RecLLM
from thinkrec_core.recllm.prefix import score_targets
from thinkrec_core.recllm.prompt import PromptBuilder
from thinkrec_core.recllm.scoring import score_examples
from thinkrec_core.recllm.signals import Signals

COLD = 12
"""A user of the tiny world whose train rows the signals of these tests do not see."""


def mixed(tiny: Tiny) -> list[Example]:
    """Text and ID prompts with and without reasons; row 0 has an empty history, and the last rows are of a cold user."""
    train = tiny.world.samples["train"]
    known = train.user_idx != COLD
    lengths = np.diff(train.history_offsets)
    entries = np.repeat(known, lengths)
    others = replace(
        train,
        user_idx=train.user_idx[known],
        item_idx=train.item_idx[known],
        label=train.label[known],
        history_offsets=np.concatenate([[0], np.cumsum(lengths[known])]),
        history_items=train.history_items[entries],
        history_labels=train.history_labels[entries],
        encoder_logit=train.encoder_logit[known],
    )
    signals = Signals(tiny.world.tables, others, inputs="vectors_and_scalars")
    assert signals.statistics["user_count"][COLD] == 0
    options = replace(OPTIONS, n_tokens=tiny.model.projector.n_tokens, history_slots=True)
    prompts = PromptBuilder(tiny.pieces, tiny.world.texts, options)
    factory = ExampleFactory(prompts, signals, tiny.model.answers, train, True, 60)
    cold = np.flatnonzero(~known)[:2].tolist()
    rows = [17, 0, 42, 5, *cold]
    made = [factory.make(row, "id") for row in rows]
    made += [factory.make(row, "text", "The user liked comedies.") for row in rows[:3]]
    assert any(not np.diff(train.history_offsets)[row] for row in rows)
    assert len({len(example.prompt.ids) for example in made}) > 4
    return made


def alone(model: RecLLM, examples: Sequence[Example]) -> np.ndarray:
    """Scores of each example by the LM's own head, without a batch, an attention mask or padding."""
    return np.array([_lone(model, _embedded(model, example)[None], None, example) for example in examples])


def left_padded(model: RecLLM, examples: Sequence[Example]) -> np.ndarray:
    """Scores of one batch that is padded on the left."""
    embedded = [_embedded(model, example) for example in examples]
    width = max(map(len, embedded))
    embeds = torch.stack([pad(each, (0, 0, width - len(each), 0), value=0.3) for each in embedded])
    mask = torch.tensor([[0] * (width - len(each)) + [1] * len(each) for each in embedded])
    return np.array([_lone(model, embeds, mask, example, place) for place, example in enumerate(examples)])


def _embedded(model: RecLLM, example: Example) -> torch.Tensor:
    embeds = model.causal.get_input_embeddings()(torch.tensor(example.prompt.ids)).clone()
    for slot, inputs in zip(example.prompt.slots, torch.from_numpy(example.slot_inputs), strict=True):
        soft = model.projector(inputs[None].to(embeds.dtype))[0]
        embeds[slot.position : slot.position + len(soft)] = soft
    return embeds


def _lone(model: RecLLM, embeds: torch.Tensor, mask: Any, example: Example, place: int = 0) -> float:
    options = model.options
    positions = None if mask is None else (mask.cumsum(-1) - 1).clamp(min=0)
    logits = model.lm(inputs_embeds=embeds, attention_mask=mask, position_ids=positions, use_cache=False).logits
    return options.scale * (float(logits[place, -1, model.answers.yes_id]) - options.offset) + example.prior


@torch.no_grad()
@pytest.mark.parametrize("n_tokens", [1, 3])
def test_padding_side_and_batch_composition_change_no_score_in_float64(n_tokens: int) -> None:
    tiny = tiny_recllm(n_tokens)
    tiny.model.double()
    examples, pad_id = mixed(tiny), tiny.pieces.pad_id
    # The prior of a batch is kept in fp32.
    examples = [replace(example, prior=float(np.float32(example.prior))) for example in examples]
    expected = alone(tiny.model, examples)
    assert np.ptp(expected) > 0.1
    for batch_size in (1, 2, 5, len(examples)):
        found = score_examples(tiny.model, examples, pad_id, batch_size)
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9)
    np.testing.assert_allclose(score_examples(tiny.model, examples[::-1], pad_id, 4)[::-1], expected, rtol=0, atol=1e-9)
    np.testing.assert_allclose(left_padded(tiny.model, examples), expected, rtol=0, atol=1e-9)


@torch.no_grad()
@pytest.mark.parametrize("n_tokens", [1, 3])
def test_losses_of_a_batch_are_those_of_its_samples_in_fp32(n_tokens: int) -> None:
    tiny = tiny_recllm(n_tokens)
    examples = mixed(tiny)
    lone = [tiny.model(collate([example], tiny.pieces.pad_id, n_tokens)) for example in examples]
    sums = tiny.model(collate(examples, tiny.pieces.pad_id, n_tokens))
    tokens = sum(len(example.answer.ids) for example in examples)
    bce, ce = sum(float(each.bce) for each in lone), sum(float(each.ce) for each in lone)
    assert float(sums.bce) / len(examples) == pytest.approx(bce / len(examples), abs=1e-5)
    assert float(sums.ce) / tokens == pytest.approx(ce / tokens, abs=1e-5)
    np.testing.assert_allclose(score_examples(tiny.model, examples, 1, 4), alone(tiny.model, examples), atol=1e-5)


@torch.no_grad()
@pytest.mark.slow
def test_smollm2_gives_equal_scores_in_fp32() -> None:
    model, examples, pad_id = made_up(5)
    expected = alone(model, examples)
    assert np.ptp(expected) > 1e-2
    np.testing.assert_allclose(score_examples(model, examples, pad_id, 5), expected, rtol=0, atol=1e-4)
    np.testing.assert_allclose(score_targets(model, examples, pad_id, 5), expected, rtol=0, atol=1e-4)
    np.testing.assert_allclose(left_padded(model, examples), expected, rtol=0, atol=1e-4)
