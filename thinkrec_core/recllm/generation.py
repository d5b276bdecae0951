"""Reasons in the student's own words: greedy text after the verdict that its score implies."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn import functional
from transformers import LogitsProcessor, LogitsProcessorList

from thinkrec_core.recllm.examples import Example, collate
from thinkrec_core.recllm.model import RecLLM
from thinkrec_core.recllm.tokens import PieceTokenizer

PENALTY = 1.2
"""A small model loops; a mild penalty on what it has written is enough and keeps greedy decoding deterministic."""


def explain(model: RecLLM, tokenizer: PieceTokenizer, example: Example, says_yes: bool, max_tokens: int) -> str:
    """What `explain_batch` gives for one example."""
    return explain_batch(model, tokenizer, [example], [says_yes], max_tokens)[0]


@torch.no_grad()
def explain_batch(
    model: RecLLM, tokenizer: PieceTokenizer, examples: Sequence[Example], says_yes: Sequence[bool], max_tokens: int
) -> list[str]:
    """ "Yes." or "No." and what the model writes after it, greedily, up to its end token or `max_tokens`; one per example.

    The verdict is the score's, not the first generated token's, so that text and score cannot contradict each other.
    """
    model.eval()
    batch = collate(examples, tokenizer.pad_id, model.projector.n_tokens, with_answers=False)
    device = model.answer_rows_2H.device
    embeds_BTH = model.embed(batch.to(device))
    full_stop = tokenizer.literal(".")
    heads = [[model.answers.verdict(int(yes)), *full_stop] for yes in says_yes]
    heads_BKH = model.causal.get_input_embeddings()(torch.tensor(heads, device=device))
    # Generation goes on at the right end: prompts of one batch are padded on the left.
    lengths = [len(example.prompt.ids) for example in examples]
    rows = [torch.cat([row[:length], head]) for row, length, head in zip(embeds_BTH, lengths, heads_BKH, strict=True)]
    width = max(len(row) for row in rows)
    mask_BT = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows], device=device)
    made = model.causal.generate(
        inputs_embeds=torch.stack([functional.pad(row, (0, 0, width - len(row), 0)) for row in rows]),
        attention_mask=mask_BT,
        max_new_tokens=max_tokens,
        # A student that saw few reflections ends at once; an explanation is a sentence at least.
        min_new_tokens=min(8, max_tokens),
        do_sample=False,
        logits_processor=LogitsProcessorList([_Repetition()]),
        eos_token_id=tokenizer.eos_id,
        pad_token_id=tokenizer.pad_id,
    ).tolist()
    return [_text(tokenizer, head, ids) for head, ids in zip(heads, made, strict=True)]


class _Repetition(LogitsProcessor):
    """Divides the positive logits of tokens already written by PENALTY, and multiplies the negative ones.

    The processor of transformers takes the first written tokens of a padded prompt for padding, and spares them.
    """

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """(B, vocabulary) logits; `input_ids` (B, written) holds no prompt, which is given as embeddings."""
        logits = scores.gather(1, input_ids)
        return scores.scatter(1, input_ids, torch.where(logits < 0, logits * PENALTY, logits / PENALTY))


def _text(tokenizer: PieceTokenizer, head: list[int], ids: list[int]) -> str:
    """One line of text; decoded together with the verdict, so that the blank between them survives."""
    end = ids.index(tokenizer.eos_id) if tokenizer.eos_id in ids else len(ids)
    text = str(tokenizer.tokenizer.decode([*head, *ids[:end]], skip_special_tokens=True))
    return " ".join(text.split())
