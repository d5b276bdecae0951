"""Many targets of one user for little more than one prompt: the keys and values of the shared beginning are computed once.

In a prompt the user and the history stand before the target, so prompts of one user and one history differ only in their
ends. The beginning runs once with its keys and values kept; the ends run in batches against copies of them. In exact
arithmetic the scores are those of whole prompts. For bodies that take no trees (`sharing`), which are faster.

Shape suffixes: see `model`; P tokens of the shared beginning, E tokens of the ends.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from thinkrec_core.recllm.depth import last_mlp_only_at
from thinkrec_core.recllm.examples import Example, collate, part
from thinkrec_core.recllm.model import RecLLM
from thinkrec_core.recllm.scoring import all_finite, by_length, evaluating

Rows = npt.NDArray[np.int64]


def shared_length(examples: Sequence[Example], n_tokens: int) -> int:
    """P, the tokens with which all prompts begin, soft tokens and their inputs included; at least one token is left to each.

    Args:
        n_tokens: soft tokens per slot.
    """
    first = examples[0]
    length = min(len(example.prompt.ids) for example in examples) - 1
    for example in examples[1:]:
        pairs = zip(first.prompt.ids[:length], example.prompt.ids[:length], strict=True)
        length = next((place for place, (one, other) in enumerate(pairs) if one != other), length)
    for number, slot in enumerate(first.prompt.slots):
        # A slot counts as shared if it and the token after it lie inside and every prompt has the same inputs there.
        if slot.position + n_tokens < length and all(_same_slot(first, example, number) for example in examples):
            continue
        length = min(length, slot.position)
    for example in examples[
        1:
    ]:  # where this prompt has a soft token and the first one has text that happens to be equal
        ours = {slot.position for slot in first.prompt.slots}
        length = min([length, *(slot.position for slot in example.prompt.slots if slot.position not in ours)])
    return max(length, 0)


@torch.no_grad()
def score_targets(
    model: RecLLM,
    examples: Sequence[Example],
    pad_id: int,
    batch_size: int,
    before_batch: Callable[[Rows], None] | None = None,
) -> npt.NDArray[np.float64]:
    """(R,) scores of examples of one user, prior included; equal to `scoring.score_examples` up to rounding.

    Args:
        examples: of one user with one history; without a common beginning they are scored whole.
        before_batch: called with the indices of the examples that run next, to set their gates; those of one user are
            the same, so that any of them stands for the shared beginning.

    Raises:
        ValueError: a score is not finite.
    """
    with evaluating(model):
        device = model.answer_rows_2H.device
        n_tokens = model.projector.n_tokens
        length = shared_length(examples, n_tokens)
        cache = None
        if length:
            if before_batch is not None:
                before_batch(np.zeros(1, np.int64))
            beginning = collate([part(examples[0], 0, length)], pad_id, n_tokens, with_answers=False).to(device)
            nowhere_BT = torch.zeros_like(beginning.attention_mask_BT, dtype=torch.bool)
            with last_mlp_only_at(model.causal.base_model, nowhere_BT):
                cache = _run(model, model.embed(beginning), beginning.attention_mask_BT, None)[1]
        scores = np.empty(len(examples))
        for chosen in by_length(examples, batch_size, before_batch):
            ends = [part(examples[index], length, len(examples[index].prompt.ids)) for index in chosen]
            batch = collate(ends, pad_id, n_tokens, with_answers=False).to(device)
            shared_BP = batch.attention_mask_BT.new_ones(len(chosen), length)
            mask_BT = torch.cat([shared_BP, batch.attention_mask_BT], dim=1)
            with last_mlp_only_at(model.causal.base_model, batch.read(with_answers=False)):
                hidden_BEH, _ = _run(model, model.embed(batch), mask_BT, _repeated(cache, len(chosen)))
            scores[chosen] = model.score_hidden(hidden_BEH, batch).double().cpu().numpy()
    return all_finite(scores)


def _run(model: RecLLM, embeds: torch.Tensor, mask: torch.Tensor, cache: Any) -> tuple[torch.Tensor, Any]:
    """Last hidden states, and the cache with the keys and values of what ran."""
    out = model.causal.base_model(inputs_embeds=embeds, attention_mask=mask, past_key_values=cache, use_cache=True)
    return out.last_hidden_state, out.past_key_values


def _repeated(cache: Any, rows: int) -> Any:
    """A copy of a one-row cache for `rows` rows: a forward appends to what it is given."""
    if cache is None:
        return None
    copied = copy.deepcopy(cache)
    copied.batch_repeat_interleave(rows)
    return copied


def _same_slot(first: Example, other: Example, number: int) -> bool:
    if number >= len(other.prompt.slots) or first.prompt.slots[number].position != other.prompt.slots[number].position:
        return False
    return bool(np.array_equal(first.slot_inputs[number], other.slot_inputs[number]))
