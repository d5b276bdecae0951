"""Scores of many examples of many users: what their prompts have in common is computed once.

Prompts stand as trees in one row (`trees`) wherever the body takes them; elsewhere whole prompts stand in batches of like length.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from thinkrec_core.recllm.depth import takes_trees
from thinkrec_core.recllm.examples import Batch, Example, collate
from thinkrec_core.recllm.model import RecLLM
from thinkrec_core.recllm.scoring import all_finite, by_length, evaluating
from thinkrec_core.recllm.trees import batches_of, collate_trees, trees_of

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Shared:
    """A batch for scoring."""

    batch: Batch
    first: Rows
    """An example of each of its trees, or of each row where there are no trees."""
    rows: Rows
    """Its examples, in its order."""


def shared_batches(
    model: RecLLM,
    examples: Sequence[Example],
    pad_id: int,
    batch_size: int,
    kinds: Sequence[Hashable] | None = None,
) -> Iterator[Shared]:
    """Every example in one batch.

    Args:
        pad_id: any token id; padded positions are masked.
        batch_size: prompts in a batch, or as many tokens as that many prompts have on average.
        kinds: one per example; only examples of equal kinds share anything. Their gates, say.
    """
    n_tokens = model.projector.n_tokens
    if not takes_trees(model.causal.base_model):
        for rows in by_length(examples, batch_size, None):
            yield Shared(collate([examples[row] for row in rows], pad_id, n_tokens, with_answers=False), rows, rows)
        return
    most = batch_size * sum(len(example.prompt.ids) for example in examples) // max(1, len(examples))
    for trees in batches_of(trees_of(examples, n_tokens, most, kinds), most):
        first = np.array([tree.rows[0] for tree in trees])
        yield Shared(collate_trees(examples, trees, n_tokens), first, np.concatenate([tree.rows for tree in trees]))


@torch.no_grad()
def score_shared(
    model: RecLLM,
    examples: Sequence[Example],
    pad_id: int,
    batch_size: int,
    progress: Callable[[int], None] | None = None,
) -> npt.NDArray[np.float64]:
    """(R,) score of each example, prior included, under one adapter for all; equal to `scoring.score_examples` up to rounding.

    Args:
        pad_id: see `shared_batches`, as batch_size.
        progress: called with the number of examples done.

    Raises:
        ValueError: a score is not finite.
    """
    scores, done = np.empty(len(examples)), 0
    with evaluating(model):
        for shared in shared_batches(model, examples, pad_id, batch_size):
            batch = shared.batch.to(model.answer_rows_2H.device)
            scores[shared.rows] = model.score(batch).double().cpu().numpy()
            done += len(shared.rows)
            if progress is not None:
                progress(done)
    return all_finite(scores)
