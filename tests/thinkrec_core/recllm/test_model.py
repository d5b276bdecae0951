"""Losses and scores against a computation that shares nothing with the batch: one sample, no padding, the LM's own logits."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.tiny_model import tiny_causal
from tests.tiny_recllm import OPTIONS, Tiny, tiny_recllm
from thinkrec_core.errors import ModelError
from thinkrec_core.recllm.examples import Example, collate
from thinkrec_core.recllm.model import LossSums, ScoreOptions, embedding_rms
from thinkrec_core.recllm.objective import ObjectiveWeights, batch_loss

# Row 0 has an empty history; the rows, and the users and items in them, come out of order.
ROWS = [17, 0, 42, 5, 33, 8]
TRACES = ["Because.", "The user liked comedies and disliked dramas. " * 3, "", "No. Yes. Yes", "Long " * 40, "x"]


def lone_logits(tiny: Tiny, example: Example) -> torch.Tensor:
    """(T, vocabulary) logits of prompt and answer alone, the soft tokens placed by hand."""
    ids = [*example.prompt.ids, *example.answer.ids]
    embeds = tiny.model.causal.get_input_embeddings()(torch.tensor(ids)).clone()
    w1, b1, w2, b2 = tiny.model.projector.parameters()
    for slot, inputs in zip(example.prompt.slots, torch.from_numpy(example.slot_inputs), strict=True):
        soft = w2 @ torch.clamp(w1 @ inputs + b1, min=0) + b2
        for step, token in enumerate(soft.chunk(tiny.model.projector.n_tokens)):
            embeds[slot.position + step] = token
    return tiny.model.lm(inputs_embeds=embeds[None]).logits[0]


def lone_score(tiny: Tiny, example: Example) -> float:
    options = tiny.model.options
    logits = lone_logits(tiny, example)[len(example.prompt.ids) - 1]
    logit = logits[tiny.model.answers.yes_id]
    if options.score == "yes_minus_no":
        logit = logit - logits[tiny.model.answers.no_id]
    return options.scale * (float(logit) - options.offset) + example.prior


def lone_losses(tiny: Tiny, example: Example) -> tuple[float, float]:
    """(BCE of the score, sum of the negative log-likelihoods of the answer tokens)."""
    score, sign = lone_score(tiny, example), 1 if example.label else -1
    bce = math.log1p(math.exp(-sign * score))
    log_p = lone_logits(tiny, example).log_softmax(-1)
    start = len(example.prompt.ids) - 1
    return bce, -sum(float(log_p[start + place, token]) for place, token in enumerate(example.answer.ids))


def made(tiny: Tiny, kind: str, with_prior: bool = False) -> list[Example]:
    factory = tiny.factory(replace(OPTIONS, history_slots=True), with_prior)
    traces: Sequence[str | None] = TRACES if kind == "reasoning" else [None] * len(ROWS)
    return [factory.make(row, "id", trace) for row, trace in zip(ROWS, traces, strict=True)]


def forward(tiny: Tiny, examples: Sequence[Example]) -> LossSums:
    return tiny.model(collate(examples, tiny.pieces.pad_id, tiny.model.projector.n_tokens))


@torch.no_grad()
@pytest.mark.parametrize("n_tokens", [1, 3])
@pytest.mark.parametrize("options", [ScoreOptions(), ScoreOptions("yes_minus_no", 0.7, 1.3)])
def test_a_mixed_pair_of_batches_has_the_exact_loss(n_tokens: int, options: ScoreOptions) -> None:
    tiny = tiny_recllm(n_tokens, options)
    weights = {"recommendation": (0.9, 0.1), "reasoning": (0.1, 0.9)}
    for kind in ("recommendation", "reasoning"):
        examples = made(tiny, kind, with_prior=True)
        assert len({len(example.prompt.ids) for example in examples}) > 3
        assert any(example.prior for example in examples)
        tokens = sum(len(example.answer.ids) for example in examples)
        alone = [lone_losses(tiny, example) for example in examples]
        bce, ce = sum(one for one, _ in alone) / len(ROWS), sum(one for _, one in alone) / tokens
        expected = weights[kind][0] * bce + weights[kind][1] * ce
        sums = forward(tiny, examples)
        assert float(sums.bce) / len(ROWS) == pytest.approx(bce, abs=1e-5)
        assert float(sums.ce) / tokens == pytest.approx(ce, abs=1e-5)
        loss = batch_loss(sums, kind, ObjectiveWeights(), len(ROWS), tokens)  # type: ignore[arg-type]
        assert float(loss) == pytest.approx(expected, abs=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("kind", ["recommendation", "reasoning"])
@pytest.mark.parametrize("size", [1, 2, 3])
def test_shares_of_micro_batches_add_up_to_the_whole(kind: str, size: int) -> None:
    tiny = tiny_recllm()
    examples = made(tiny, kind)
    tokens = sum(len(example.answer.ids) for example in examples)

    def share(part: Sequence[Example]) -> float:
        return float(batch_loss(forward(tiny, part), kind, ObjectiveWeights(), len(ROWS), tokens))  # type: ignore[arg-type]

    parts = [examples[start : start + size] for start in range(0, len(ROWS), size)]
    assert sum(map(share, parts)) == pytest.approx(share(examples), abs=1e-5)


@torch.no_grad()
def test_scores_are_the_lms_own_yes_logits() -> None:
    tiny = tiny_recllm()
    examples = made(tiny, "reasoning")
    batch = collate(examples, tiny.pieces.pad_id, 1, with_answers=False)
    expected = [lone_score(tiny, example) for example in examples]
    np.testing.assert_allclose(tiny.model.score(batch), expected, atol=1e-5)
    full = [lone_logits(tiny, example)[len(example.prompt.ids) - 1] for example in examples]
    torch.testing.assert_close(tiny.model.next_token_logits(batch), torch.stack(full), atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_the_padding_token_is_without_effect() -> None:
    tiny = tiny_recllm()
    examples = made(tiny, "reasoning")
    one, other = (tiny.model(collate(examples, pad, 1)) for pad in (1, 200))
    assert float(one.bce) == pytest.approx(float(other.bce), abs=1e-5)
    assert float(one.ce) == pytest.approx(float(other.ce), abs=1e-4)


@torch.no_grad()
def test_zeroed_slot_inputs_change_the_scores() -> None:
    tiny = tiny_recllm()
    batch = collate(made(tiny, "recommendation"), tiny.pieces.pad_id, 1, with_answers=False)
    zeroed = replace(batch, slot_inputs_SF=torch.zeros_like(batch.slot_inputs_SF))
    assert float((tiny.model.score(batch) - tiny.model.score(zeroed)).abs().min()) > 1e-4


def test_gradients_reach_adapter_and_projector_through_the_soft_tokens() -> None:
    tiny = tiny_recllm()
    forward(tiny, made(tiny, "reasoning")).bce.backward()
    for name, parameter in tiny.model.named_parameters():
        if "lora_" in name or name.startswith("projector."):
            assert parameter.grad is not None, name
            assert float(parameter.grad.abs().max()) > 0, name


@torch.no_grad()
def test_logits_are_capped_as_the_config_says() -> None:
    tiny = tiny_recllm()
    batch = collate(made(tiny, "recommendation"), tiny.pieces.pad_id, 1, with_answers=False)
    plain = tiny.model.score(batch)
    tiny.model._softcap = 2.0
    torch.testing.assert_close(tiny.model.score(batch), 2 * torch.tanh(plain / 2))


def test_embedding_scale_by_hand_and_of_a_broken_model() -> None:
    causal = tiny_causal()
    weight = causal.get_input_embeddings().weight
    assert embedding_rms(causal) == pytest.approx(float(np.sqrt((weight.detach().numpy() ** 2).mean())), rel=1e-6)
    with torch.no_grad():
        weight[3, 3] = torch.inf
    with pytest.raises(ModelError, match="root mean square inf"):
        embedding_rms(causal)
