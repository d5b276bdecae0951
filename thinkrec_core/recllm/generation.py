"""Reasons in the student's own words: greedy text after the verdict that its score implies."""

from __future__ import annotations

import torch

from thinkrec_core.recllm.examples import Example, collate
from thinkrec_core.recllm.model import RecLLM
from thinkrec_core.recllm.tokens import PieceTokenizer


@torch.no_grad()
def explain(model: RecLLM, tokenizer: PieceTokenizer, example: Example, says_yes: bool, max_tokens: int) -> str:
    """ "Yes." or "No." and what the model writes after it, greedily, up to its end token or `max_tokens`.

    The verdict is the score's, not the first generated token's, so that text and score cannot contradict each other.
    """
    model.eval()
    batch = collate([example], tokenizer.pad_id, model.projector.n_tokens, with_answers=False)
    head = [model.answers.verdict(int(says_yes)), *tokenizer.literal(".")]
    embeds_1TH = model.embed(batch.to(model.answer_rows_2H.device))
    head_1K = torch.tensor([head], device=embeds_1TH.device)
    embeds_1TH = torch.cat([embeds_1TH, model.causal.get_input_embeddings()(head_1K)], dim=1)
    ids = model.causal.generate(
        inputs_embeds=embeds_1TH,
        attention_mask=torch.ones(embeds_1TH.shape[:2], dtype=torch.long, device=embeds_1TH.device),
        max_new_tokens=max_tokens,
        # A student that saw few reflections ends at once; an explanation is a sentence at least.
        min_new_tokens=min(8, max_tokens),
        do_sample=False,
        # A small model loops; a mild penalty is enough and keeps greedy decoding deterministic.
        repetition_penalty=1.2,
        eos_token_id=tokenizer.eos_id,
        pad_token_id=tokenizer.pad_id,
    )[0]
    # The text is decoded together with the verdict, so that the blank between them survives.
    text = str(tokenizer.tokenizer.decode([*head, *ids.tolist()], skip_special_tokens=True))
    return " ".join(text.split())
