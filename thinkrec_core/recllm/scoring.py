"""Scores of many examples: batches of similar length, results in the order asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt
import torch

from thinkrec_core.recllm.examples import Example, collate
from thinkrec_core.recllm.model import RecLLM


@torch.no_grad()
def score_examples(
    model: RecLLM,
    examples: Sequence[Example],
    pad_id: int,
    batch_size: int,
    before_batch: Callable[[npt.NDArray[np.int64]], None] | None = None,
    progress: Callable[[int], None] | None = None,
) -> npt.NDArray[np.float64]:
    """(R,) score of each example, prior included.

    Args:
        before_batch: called with the indices of the examples of each batch, to set their gates.
        progress: called with the number of examples done.

    Raises:
        ValueError: a score is not finite.
    """
    with evaluating(model):
        device = model.answer_rows_2H.device
        scores, done = np.empty(len(examples)), 0
        for chosen in by_length(examples, batch_size, before_batch):
            batch = collate([examples[i] for i in chosen], pad_id, model.projector.n_tokens, with_answers=False)
            scores[chosen] = model.score(batch.to(device)).double().cpu().numpy()
            done += len(chosen)
            if progress is not None:
                progress(done)
    return all_finite(scores)


def by_length(
    examples: Sequence[Example], batch_size: int, before_batch: Callable[[npt.NDArray[np.int64]], None] | None
) -> Iterator[npt.NDArray[np.int64]]:
    """Indices of the examples of each batch, shortest prompts first, so that little is padded; `before_batch` is told first."""
    order = np.argsort([len(example.prompt.ids) for example in examples], kind="stable")
    for start in range(0, len(order), batch_size):
        chosen = order[start : start + batch_size]
        if before_batch is not None:
            before_batch(chosen)
        yield chosen


@contextmanager
def evaluating(model: RecLLM) -> Iterator[None]:
    """`model` in eval mode inside, in the mode it was in outside."""
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)


def all_finite(scores: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """`scores`.

    Raises:
        ValueError: one is not finite.
    """
    if not np.isfinite(scores).all():
        raise ValueError(f"{int((~np.isfinite(scores)).sum())} of {scores.size} scores are not finite")
    return scores
