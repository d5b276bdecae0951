"""Prompts that share a sequence have the scores of whole prompts, and every prompt stands in exactly one."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.tiny_recllm import Tiny, tiny_recllm
from tests.user_rows import rows_of_users
from thinkrec_core.recllm.examples import Example
from thinkrec_core.recllm.packs import MOST_PADDED, Pack, batches_of, collate_packs, packs_of
from thinkrec_core.recllm.scoring import score_examples


def lengths(examples: list[Example]) -> list[int]:
    return [len(example.prompt.ids) for example in examples]


def packed_scores(tiny: Tiny, examples: list[Example], packs: list[Pack], batch_size: int) -> np.ndarray:
    scores = np.full(len(examples), np.nan)
    for batch in batches_of(packs, lengths(examples), batch_size):
        made = collate_packs(examples, batch, tiny.pieces.pad_id, tiny.model.projector.n_tokens)
        with torch.no_grad():
            scores[np.concatenate([pack.rows for pack in batch])] = tiny.model.score(made).numpy()
    return scores


@pytest.mark.parametrize("slots", [True, False])
@pytest.mark.parametrize("n_tokens", [1, 3])
@pytest.mark.parametrize("batch_size", [1, 4, 50])
def test_scores_are_those_of_whole_prompts(n_tokens: int, batch_size: int, slots: bool) -> None:
    tiny = tiny_recllm(n_tokens)
    tiny.model.double()
    examples = rows_of_users(tiny, slots)
    packs = packs_of(tiny.model, examples)
    assert sorted(len(pack.rows) for pack in packs) == [2, 2, 2, 3, 3, 3]
    assert sum(pack.tokens for pack in packs) < 0.8 * sum(lengths(examples))
    whole = score_examples(tiny.model, examples, tiny.pieces.pad_id, 4)
    np.testing.assert_allclose(packed_scores(tiny, examples, packs, batch_size), whole, rtol=0, atol=1e-9)
    assert np.ptp(whole) > 0.01
    # Labels and priors come in the order of the examples too.
    batch = collate_packs(examples, packs, tiny.pieces.pad_id, n_tokens)
    order = np.concatenate([pack.rows for pack in packs])
    assert batch.label_B.tolist() == [examples[row].label for row in order]
    assert batch.prior_B.tolist() == pytest.approx([examples[row].prior for row in order])


def test_a_prompt_alone_and_several_share_a_batch() -> None:
    tiny = tiny_recllm()
    tiny.model.double()
    examples = rows_of_users(tiny)
    packs = packs_of(tiny.model, examples, kinds=[row in (0, 5) for row in range(len(examples))])
    assert {1, 3} <= {len(pack.rows) for pack in packs}
    batch = collate_packs(examples, packs, tiny.pieces.pad_id, 1)
    with torch.no_grad():
        scores = tiny.model.score(batch).numpy()
    whole = score_examples(tiny.model, examples, tiny.pieces.pad_id, 4)
    np.testing.assert_allclose(scores, whole[np.concatenate([pack.rows for pack in packs])], rtol=0, atol=1e-9)


def test_an_end_sees_its_beginning_and_itself_and_nothing_else() -> None:
    tiny = tiny_recllm()
    examples = rows_of_users(tiny)
    packs = packs_of(tiny.model, examples)
    batch = collate_packs(examples, packs, tiny.pieces.pad_id, 1)
    visible = batch.attention(torch.float32)[:, 0] == 0
    number = next(index for index, pack in enumerate(packs) if len(pack.rows) == 3)
    pack, starts = packs[number], [packs[number].shared]
    for row in packs[number].rows:
        starts.append(starts[-1] + len(examples[row].prompt.ids) - pack.shared)
    for end, (start, stop) in enumerate(pairwise(starts)):
        last = visible[number, stop - 1].nonzero()[:, 0].tolist()
        assert last == [*range(pack.shared), *range(start, stop)]
        assert int(batch.position_BT[number, stop - 1]) == len(examples[pack.rows[end]].prompt.ids) - 1
    assert visible.any(dim=2).all()  # a row that saw nothing would be NaN


def test_only_prompts_of_one_user_and_one_kind_share_a_sequence() -> None:
    tiny = tiny_recllm()
    examples = rows_of_users(tiny)
    for kinds in (None, [row % 2 for row in range(len(examples))]):
        for pack in packs_of(tiny.model, examples, kinds):
            assert len({examples[row].user for row in pack.rows}) == 1
            assert kinds is None or len({kinds[row] for row in pack.rows}) == 1
    alone = [replace(example, user=number) for number, example in enumerate(examples)]
    assert all(len(pack.rows) == 1 for pack in packs_of(tiny.model, alone))


def test_the_number_of_ends_is_bounded_and_one_leaves_every_prompt_alone() -> None:
    tiny = tiny_recllm()
    examples = rows_of_users(tiny)
    assert max(len(pack.rows) for pack in packs_of(tiny.model, examples, most_ends=2)) == 2
    alone = packs_of(tiny.model, examples, most_ends=1)
    assert [pack.rows.tolist() for pack in alone] == [[row] for row in range(len(examples))]
    whole = score_examples(tiny.model, examples, tiny.pieces.pad_id, 4)
    np.testing.assert_allclose(packed_scores(tiny, examples, alone, 4), whole, atol=1e-5)


@pytest.mark.parametrize("field", ["sliding_window", "_attn_implementation"])
def test_a_body_that_takes_no_mask_of_ours_has_one_prompt_in_a_sequence(field: str) -> None:
    tiny = tiny_recllm()
    config = tiny.model.causal.base_model.config
    before = getattr(config, field, None)
    try:
        setattr(config, field, {"sliding_window": 64, "_attn_implementation": "flash_attention_2"}[field])
        assert all(len(pack.rows) == 1 for pack in packs_of(tiny.model, rows_of_users(tiny)))
    finally:
        setattr(config, field, before)


PACKS = st.lists(st.tuples(st.integers(1, 8), st.integers(4, 300), st.integers(1, 60)), min_size=1, max_size=40)


@settings(max_examples=60, deadline=None)
@given(PACKS, st.integers(1, 20))
def test_batches_hold_every_pack_once_within_their_tokens_and_padding(
    drawn: list[tuple[int, int, int]], size: int
) -> None:
    packs, known = [], []
    for ends, shared, own in drawn:
        rows = np.arange(len(known), len(known) + ends)
        known += [shared + own] * ends
        packs.append(Pack(rows, shared if ends > 1 else 0, shared + ends * own))
    batches = list(batches_of(packs, known, size))
    assert sorted(row for batch in batches for pack in batch for row in pack.rows.tolist()) == list(range(len(known)))
    for batch in batches:
        padded = max(pack.tokens for pack in batch) * len(batch)
        assert len(batch) == 1 or padded <= size * max(known[row] for pack in batch for row in pack.rows)
        assert padded - sum(pack.tokens for pack in batch) <= MOST_PADDED * padded
