"""Reasons in the student's own words: greedy text after the verdict that its score implies."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch.nn import functional
from transformers import LogitsProcessor, LogitsProcessorList
from transformers.generation.streamers import BaseStreamer

from thinkrec_core.recllm.examples import Example, collate
from thinkrec_core.recllm.model import RecLLM
from thinkrec_core.recllm.tokens import PieceTokenizer

PENALTY = 1.2
"""A small model loops; a mild penalty on what it has written is enough and keeps greedy decoding deterministic."""


def explain(
    model: RecLLM,
    tokenizer: PieceTokenizer,
    example: Example,
    says_yes: bool,
    max_tokens: int,
    told: Callable[[str], None] | None = None,
) -> str:
    """What `explain_batch` gives for one example.

    Args:
        told: called with the text so far after each token; what it raises ends the writing.
    """
    return explain_batch(model, tokenizer, [example], [says_yes], max_tokens, told)[0]


@torch.no_grad()
def explain_batch(
    model: RecLLM,
    tokenizer: PieceTokenizer,
    examples: Sequence[Example],
    says_yes: Sequence[bool],
    max_tokens: int,
    told: Callable[[str], None] | None = None,
) -> list[str]:
    """ "Yes." or "No." and what the model writes after it, greedily, up to its end token or `max_tokens`; one per example.

    The verdict is the score's, not the first generated token's, so that text and score cannot contradict each other.

    Args:
        told: called with the text of the first example so far, after each token.
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
        streamer=None if told is None else _Told(told, tokenizer, heads[0]),
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


class _Told(BaseStreamer):
    """Hands on the text of one example while it is written."""

    def __init__(self, told: Callable[[str], None], tokenizer: PieceTokenizer, head: list[int]) -> None:
        self._told, self._tokenizer, self._head = told, tokenizer, head
        self._ids: list[int] = []

    def put(self, value: torch.Tensor) -> None:
        """The next token; nothing at first, where generation hands on the prompt, which is given as embeddings."""
        if value.numel():
            self._ids += value.flatten().tolist()
            self._told(_text(self._tokenizer, self._head, self._ids))

    def end(self) -> None:
        """Nothing is held back."""


def _text(tokenizer: PieceTokenizer, head: list[int], ids: list[int]) -> str:
    """One line of text; decoded together with the verdict, so that the blank between them survives."""
    end = ids.index(tokenizer.eos_id) if tokenizer.eos_id in ids else len(ids)
    text = str(tokenizer.tokenizer.decode([*head, *ids[:end]], skip_special_tokens=True))
    return " ".join(text.split())
