"""Prompts of one user as one sequence: what they have in common stands there once, and their ends stand side by side behind it.

    beginning | end 1 | end 2 | ... | end m

Each end sees the beginning and itself, and its positions count on from those of the beginning (tree attention), so that in exact
arithmetic the scores are those of whole prompts. A batch holds sequences of many users, each with gates of its own, where
`prefix` keeps keys and values for many targets of one user. On the ML-1M split a user and a history have 2.3 test rows on average
when histories hold likes, and 1.4 when they hold dislikes too.

Shape suffixes: see `model`; a batch of G sequences has B examples.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch

from thinkrec_core.recllm.depth import takes_masks
from thinkrec_core.recllm.examples import Batch, Example, collate, joined, part
from thinkrec_core.recllm.model import RecLLM
from thinkrec_core.recllm.prefix import shared_length

Rows = npt.NDArray[np.int64]

MOST_ENDS = 8
"""Ends of one sequence: every token looks at all others, and beyond that the looking costs what the sharing saves."""
LEAST_SHARED = 0.25
"""Share of a prompt that must be common before it is worth a sequence with ends."""
MOST_PADDED = 0.06
"""Share of padding at which a batch is closed although more sequences would fit."""


@dataclass(frozen=True)
class Pack:
    """Examples that stand in one sequence."""

    rows: Rows
    """Their indices; one index for a prompt that stands alone."""
    shared: int
    """Tokens of the common beginning; 0 for a prompt that stands alone."""
    tokens: int
    """Length of the sequence."""


def packs_of(
    model: RecLLM, examples: Sequence[Example], kinds: Sequence[Hashable] | None = None, most_ends: int = MOST_ENDS
) -> list[Pack]:
    """Every example in exactly one sequence; those of one user whose prompts begin alike share one.

    Prompts are joined greedily, in the order of their tokens, as long as that saves more of them. A body that takes no mask of its
    own has one sequence per example.

    Args:
        kinds: one per example; only examples of equal kinds share a sequence. Their gates, say.
        most_ends: 1 leaves every prompt alone.
    """
    lengths = [len(example.prompt.ids) for example in examples]
    if most_ends < 2 or not takes_masks(model.causal.base_model):
        return [Pack(np.array([row]), 0, length) for row, length in enumerate(lengths)]
    by_user: dict[Hashable, list[int]] = {}
    for row, example in enumerate(examples):
        by_user.setdefault((example.user, None if kinds is None else kinds[row]), []).append(row)
    found: list[Pack] = []
    for rows in by_user.values():
        rows.sort(key=lambda row: examples[row].prompt.ids)  # neighbours have most in common
        group, shared = [rows[0]], 0
        for row in rows[1:]:
            both = shared_length([examples[group[0]], examples[row]], model.projector.n_tokens)
            common = both if len(group) == 1 else min(shared, both)
            worth = common >= LEAST_SHARED * lengths[row] and common * len(group) > shared * (len(group) - 1)
            if worth and len(group) < most_ends:
                group.append(row)
                shared = common
            else:
                found.append(_pack(group, shared, lengths))
                group, shared = [row], 0
        found.append(_pack(group, shared, lengths))
    return found


def batches_of(packs: Sequence[Pack], lengths: Sequence[int], batch_size: int) -> Iterator[list[Pack]]:
    """The packs in batches: of like length, shortest first.

    A batch has no more tokens, padding included, than `batch_size` prompts of the length of its longest one.

    Args:
        lengths: tokens of every example's whole prompt.
    """
    batch: list[Pack] = []
    longest = tokens = 0
    for pack in sorted(packs, key=lambda pack: pack.tokens):
        longest_now = max(longest, *(lengths[row] for row in pack.rows))
        padded = pack.tokens * (len(batch) + 1)
        full = padded > batch_size * longest_now
        loose = padded - tokens - pack.tokens > MOST_PADDED * padded
        if batch and (full or loose):
            yield batch
            batch, tokens, longest_now = [], 0, max(lengths[row] for row in pack.rows)
        batch.append(pack)
        longest, tokens = longest_now, tokens + pack.tokens
    if batch:
        yield batch


def collate_packs(examples: Sequence[Example], packs: Sequence[Pack], pad_id: int, n_tokens: int) -> Batch:
    """The batch of `packs` for scoring; its examples come pack by pack."""
    if all(len(pack.rows) == 1 for pack in packs):
        return collate([examples[int(pack.rows[0])] for pack in packs], pad_id, n_tokens, with_answers=False)
    width = max(pack.tokens for pack in packs)
    segment_GT, position_GT = torch.full((len(packs), width), -1), torch.zeros(len(packs), width, dtype=torch.long)
    answers: list[tuple[int, int]] = []
    laid: list[Example] = []
    for number, pack in enumerate(packs):
        members = [examples[int(row)] for row in pack.rows]
        sequence = part(members[0], 0, pack.shared)
        segment_GT[number, : pack.shared] = 0
        position_GT[number, : pack.shared] = torch.arange(pack.shared)
        for segment, member in enumerate(members, start=1):
            start = len(sequence.prompt.ids)
            sequence = joined(sequence, part(member, pack.shared, len(member.prompt.ids)))
            stop = len(sequence.prompt.ids)
            segment_GT[number, start:stop] = segment
            position_GT[number, start:stop] = torch.arange(pack.shared, pack.shared + stop - start)
            answers.append((number, stop - 1))
        laid.append(sequence)
    batch = collate(laid, pad_id, n_tokens, with_answers=False)
    order = [examples[int(row)] for pack in packs for row in pack.rows]
    placed = torch.tensor(answers)
    return replace(
        batch,
        answer_start_B=placed[:, 1],
        answer_row_B=placed[:, 0],
        label_B=torch.tensor([float(example.label) for example in order]),
        prior_B=torch.tensor([example.prior for example in order], dtype=torch.float32),
        segment_BT=segment_GT,
        position_BT=position_GT,
    )


def _pack(rows: list[int], shared: int, lengths: Sequence[int]) -> Pack:
    if len(rows) == 1:
        return Pack(np.array(rows), 0, lengths[rows[0]])
    return Pack(np.array(rows), shared, shared + sum(lengths[row] - shared for row in rows))
