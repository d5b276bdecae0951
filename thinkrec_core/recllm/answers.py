"""The answer of a sample: the tokens that say Yes or No, their surface form, and the reflection behind them."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from thinkrec_core.errors import ModelError
from thinkrec_core.recllm.tokens import PieceTokenizer

SURFACES = (" Yes", "Yes")
"""Candidates for how an answer begins: after "Answer:" most models write a blank first, in a chat turn they do not."""


@dataclass(frozen=True)
class AnswerTokens:
    """First token ids of the two answers, and the surface form they were chosen by."""

    yes_id: int
    no_id: int
    surface: str

    def verdict(self, label: int) -> int:
        """The token id that answers `label`."""
        return self.yes_id if label else self.no_id


@dataclass(frozen=True)
class Answer:
    """Token ids of an answer and whether a bound cut it."""

    ids: tuple[int, ...]
    cut: bool


def choose_answer_tokens(tokenizer: PieceTokenizer, next_token_logits: torch.Tensor) -> AnswerTokens:
    """The surface form that the untrained LM finds likeliest at the answer position.

    Args:
        next_token_logits: (B, vocabulary) logits at the answer positions of a few prompts.

    Raises:
        ModelError: Yes and No begin with the same token in every surface form.
    """
    probability_BV = next_token_logits.float().softmax(-1)
    best: tuple[float, AnswerTokens] | None = None
    for surface in SURFACES:
        yes = tokenizer.literal(surface)[0]
        no = tokenizer.literal(surface.replace("Yes", "No"))[0]
        mass = float((probability_BV[:, yes] + probability_BV[:, no]).mean())
        if yes != no and (best is None or mass > best[0]):
            best = (mass, AnswerTokens(yes, no, surface))
    if best is None:
        raise ModelError("the tokenizer begins Yes and No with the same token", next_step="use another base model")
    return best[1]


def recommendation_answer(answers: AnswerTokens, label: int) -> Answer:
    """The single answer token of a recommendation sample."""
    return Answer((answers.verdict(label),), cut=False)


def reasoning_answer(answers: AnswerTokens, tokenizer: PieceTokenizer, label: int, trace: str, limit: int) -> Answer:
    """ "Yes." or "No." followed by `trace`, at most `limit` tokens, closed by the end token where it fits.

    Differs: the published code cuts without an end token, so its students never learn to stop.
    """
    head = [answers.verdict(label), *tokenizer.literal(".")]
    # The trace is user text: a special token inside it is ordinary characters.
    body = tokenizer.user_text(trace, limit, lead=" ")
    ids = [*head, *body, tokenizer.eos_id]
    return Answer(tuple(ids[:limit]), cut=len(ids) > limit)
