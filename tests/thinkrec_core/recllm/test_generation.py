"""Reasons in the student's words: the verdict of the score, then greedy text."""

from __future__ import annotations

import pytest
import torch

from tests.tiny_recllm import tiny_recllm
from thinkrec_core.recllm.generation import explain, explain_batch

TINY = tiny_recllm()
EXAMPLE = TINY.factory().make(9, "id")


@pytest.mark.parametrize(("says_yes", "verdict"), [(True, "Yes."), (False, "No.")])
def test_the_text_begins_with_the_given_verdict(says_yes: bool, verdict: str) -> None:
    text = explain(TINY.model, TINY.pieces, EXAMPLE, says_yes, 12)
    assert text.startswith(verdict)
    assert len(text) > len(verdict)
    assert "\n" not in text
    assert text == explain(TINY.model, TINY.pieces, EXAMPLE, says_yes, 12)


@torch.no_grad()
def test_the_first_word_after_the_verdict_is_the_lms_likeliest() -> None:
    head = [TINY.model.answers.yes_id, *TINY.pieces.literal(".")]
    embeds = TINY.model.causal.get_input_embeddings()(torch.tensor([*EXAMPLE.prompt.ids, *head]))
    soft = TINY.model.projector(torch.from_numpy(EXAMPLE.slot_inputs))
    for slot, vectors in zip(EXAMPLE.prompt.slots, soft, strict=True):
        embeds[slot.position] = vectors[0]
    likeliest = int(TINY.model.lm(inputs_embeds=embeds[None]).logits[0, -1].argmax())
    text = explain(TINY.model, TINY.pieces, EXAMPLE, True, 1)
    assert text == " ".join(TINY.pieces.tokenizer.decode([*head, likeliest], skip_special_tokens=True).split())


def test_a_batch_says_what_each_example_says_alone() -> None:
    factory = TINY.factory()
    examples = [factory.make(row, kind) for row, kind in ((0, "text"), (9, "id"), (12, "id"), (31, "text"))]
    assert len({len(example.prompt.ids) for example in examples}) > 1
    verdicts = [True, False, True, False]
    batch = explain_batch(TINY.model, TINY.pieces, examples, verdicts, 12)
    assert batch == [explain(TINY.model, TINY.pieces, *pair, 12) for pair in zip(examples, verdicts, strict=True)]
