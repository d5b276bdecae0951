"""Scores come in the order asked for, whatever the batches are."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.tiny_recllm import tiny_recllm
from thinkrec_core.recllm.examples import collate
from thinkrec_core.recllm.scoring import score_examples

TINY = tiny_recllm()
EXAMPLES = [TINY.factory(with_prior=True).make(row, "id") for row in range(11)]
PAD = TINY.pieces.pad_id


@torch.no_grad()
@pytest.mark.parametrize("batch_size", [1, 4, 50])
def test_order_and_batches_do_not_matter(batch_size: int) -> None:
    alone = [float(TINY.model.score(collate([example], PAD, 1, with_answers=False))) for example in EXAMPLES]
    np.testing.assert_allclose(score_examples(TINY.model, EXAMPLES, PAD, batch_size), alone, atol=1e-5)


def test_callers_hear_of_each_batch_and_of_progress() -> None:
    batches: list[list[int]] = []
    done: list[int] = []
    score_examples(TINY.model, EXAMPLES, PAD, 4, lambda rows: batches.append(rows.tolist()), done.append)
    assert sorted(row for rows in batches for row in rows) == list(range(11))
    lengths = [len(EXAMPLES[row].prompt.ids) for rows in batches for row in rows]
    assert lengths == sorted(lengths)
    assert done == [4, 8, 11]


def test_dropout_is_off_while_scoring_and_on_again_afterwards() -> None:
    tiny = tiny_recllm()
    tiny.model.train()
    one, two = (score_examples(tiny.model, EXAMPLES, PAD, 4) for _ in range(2))
    np.testing.assert_array_equal(one, two)
    assert tiny.model.training


def test_a_score_that_is_not_finite_is_an_error() -> None:
    tiny = tiny_recllm()
    with torch.no_grad():
        tiny.model.projector.outer.bias[0] = torch.nan
    with pytest.raises(ValueError, match="11 of 11 scores are not finite"):
        score_examples(tiny.model, EXAMPLES, PAD, 4)
