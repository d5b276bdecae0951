"""Examples and batches: what is fed, what is asked, where the slots are."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.tiny_recllm import OPTIONS, tiny_recllm
from thinkrec_core.recllm.examples import IGNORED, Example, collate

TINY = tiny_recllm(n_tokens=2)
FACTORY = TINY.factory(replace(OPTIONS, history_slots=True), with_prior=True)
PAD = TINY.pieces.pad_id


def examples() -> list[Example]:
    return [FACTORY.make(9, "id"), FACTORY.make(0, "id", "Because."), FACTORY.make(4, "text", "So it is.")]


def test_an_example_is_its_row() -> None:
    samples = TINY.world.samples["train"]
    for row in (0, 9, 31):
        example = FACTORY.make(row, "id")
        assert (example.row, example.user, example.label) == (row, samples.user_idx[row], samples.label[row])
        assert example.prior == samples.encoder_logit[row]
        history, _ = samples.history(row, 10)
        assert [slot.index for slot in example.prompt.slots] == [
            samples.user_idx[row],
            *history,
            samples.item_idx[row],
        ]
        assert example.slot_inputs.shape == (len(example.prompt.slots), TINY.signals.size)
        vectors = [TINY.signals.user_vectors[samples.user_idx[row]], TINY.signals.item_vectors[samples.item_idx[row]]]
        np.testing.assert_array_equal(example.slot_inputs[[0, -1], :4], vectors)


def test_without_a_prior_every_prior_is_zero() -> None:
    assert {TINY.factory().make(row, "id").prior for row in range(20)} == {0.0}


def test_rows_hold_prompt_and_answer_but_its_last_token() -> None:
    batch = collate(examples(), PAD, 2)
    for number, example in enumerate(examples()):
        fed = [*example.prompt.ids, *example.answer.ids[:-1]]
        assert batch.input_ids_BT[number, : len(fed)].tolist() == fed
        assert batch.attention_mask_BT[number].tolist() == [1] * len(fed) + [0] * (
            batch.input_ids_BT.shape[1] - len(fed)
        )
        assert int(batch.answer_start_B[number]) == len(example.prompt.ids) - 1
        asked = [token for token in batch.targets_BL[number].tolist() if token != IGNORED]
        assert asked == list(example.answer.ids)


def test_scoring_feeds_the_prompt_alone() -> None:
    batch = collate(examples(), PAD, 2, with_answers=False)
    assert batch.attention_mask_BT.sum(1).tolist() == [len(example.prompt.ids) for example in examples()]


def test_slots_are_listed_with_their_example() -> None:
    batch = collate(examples(), PAD, 2)
    listed = list(zip(batch.slot_example_S.tolist(), batch.slot_position_S.tolist(), strict=True))
    assert listed == [(n, slot.position) for n, example in enumerate(examples()) for slot in example.prompt.slots]
    np.testing.assert_array_equal(batch.slot_inputs_SF, np.concatenate([e.slot_inputs for e in examples()]))


def test_a_batch_of_text_prompts_has_no_slots() -> None:
    batch = collate([FACTORY.make(row, "text") for row in (1, 2)], PAD, 2)
    assert batch.slot_inputs_SF.shape == (0, TINY.signals.size)
    embeds = TINY.model.embed(batch)
    assert torch.equal(embeds, TINY.model.causal.get_input_embeddings()(batch.input_ids_BT))


@pytest.mark.parametrize("wrong", [40, 400])
def test_slots_that_do_not_fit_their_prompt_are_an_error(wrong: int) -> None:
    with pytest.raises(AssertionError):
        collate(examples(), PAD, wrong)
