"""Answers: the surface form of Yes, one token for a recommendation, verdict and trace for a reason."""

from __future__ import annotations

import pytest
import torch

from tests.tiny_model import SPECIAL, tiny_pieces
from thinkrec_core.errors import ModelError
from thinkrec_core.recllm.answers import AnswerTokens, choose_answer_tokens, reasoning_answer, recommendation_answer
from thinkrec_core.recllm.tokens import PieceTokenizer

PIECES = tiny_pieces()
SPACED, BARE = ([PIECES.literal(lead + word)[0] for word in ("Yes", "No")] for lead in (" ", ""))
ANSWERS = AnswerTokens(SPACED[0], SPACED[1], " Yes")


@pytest.mark.parametrize(("likely", "surface", "expected"), [(SPACED, " Yes", SPACED), (BARE, "Yes", BARE)])
def test_the_likelier_surface_is_chosen(likely: list[int], surface: str, expected: list[int]) -> None:
    logits = torch.zeros(3, 400)
    logits[:, likely[1]] = 4.0  # an LM that says No is as good a witness as one that says Yes
    logits[0, 7] = 9.0  # and one prompt where it says something else decides nothing
    assert choose_answer_tokens(PIECES, logits) == AnswerTokens(*expected, surface)


def test_a_surface_with_one_first_token_for_both_is_skipped() -> None:
    class Spaced(PieceTokenizer):
        """Begins " Yes" and " No" with the same blank, as some tokenizers do."""

        def literal(self, text: str) -> list[int]:
            return [*super().literal(" "), *super().literal(text[1:])] if text[:1] == " " else super().literal(text)

    logits = torch.zeros(1, 400)
    logits[0, PIECES.literal(" ")[0]] = 9.0
    assert choose_answer_tokens(Spaced(PIECES.tokenizer), logits).surface == "Yes"


def test_a_tokenizer_that_cannot_tell_yes_from_no_is_refused() -> None:
    class Blind(PieceTokenizer):
        def literal(self, text: str) -> list[int]:
            return [4]

    with pytest.raises(ModelError, match="same token"):
        choose_answer_tokens(Blind(PIECES.tokenizer), torch.zeros(1, 400))


@pytest.mark.parametrize("label", [0, 1])
def test_a_recommendation_is_answered_with_one_token(label: int) -> None:
    answer = recommendation_answer(ANSWERS, label)
    assert answer.ids == ((SPACED[1], SPACED[0])[label],)
    assert not answer.cut


@pytest.mark.parametrize(("label", "word"), [(0, " No"), (1, " Yes")])
def test_a_reason_is_verdict_trace_and_end(label: int, word: str) -> None:
    answer = reasoning_answer(ANSWERS, PIECES, label, "The user liked  comedies.", 50)
    assert answer.ids[0] == ANSWERS.verdict(label)
    assert PIECES.tokenizer.decode(answer.ids) == f"{word}. The user liked comedies.</s>"
    assert not answer.cut


def test_the_bound_cuts_the_end_first() -> None:
    whole = reasoning_answer(ANSWERS, PIECES, 1, "The user liked comedies.", 50).ids
    for limit in range(1, len(whole)):
        answer = reasoning_answer(ANSWERS, PIECES, 1, "The user liked comedies.", limit)
        assert answer.ids == whole[:limit]
        assert answer.cut
    assert reasoning_answer(ANSWERS, PIECES, 1, "The user liked comedies.", len(whole)).ids == whole


def test_a_trace_with_special_tokens_ends_only_at_its_end() -> None:
    answer = reasoning_answer(ANSWERS, PIECES, 1, "".join(SPECIAL), 100)
    special = set(PIECES.tokenizer.all_special_ids)
    assert [place for place, value in enumerate(answer.ids) if value in special] == [len(answer.ids) - 1]
    assert answer.ids[-1] == PIECES.eos_id


def test_a_long_trace_is_cut_and_told() -> None:
    answer = reasoning_answer(ANSWERS, PIECES, 1, "liked comedies " * 5000, 409)
    assert len(answer.ids) == 409
    assert answer.cut
