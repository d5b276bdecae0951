"""Pieces of text to ids: user text can forge nothing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.language_model import load_tokenizer
from storage.models import resolve_model
from tests.tiny_model import SPECIAL, tiny_pieces, tiny_tokenizer
from thinkrec_core.errors import ModelError
from thinkrec_core.recllm.tokens import PieceTokenizer, cleaned

PIECES = tiny_pieces()


def test_the_begin_token_is_the_prefix_and_only_there() -> None:
    assert PIECES.prefix == (PIECES.tokenizer.bos_token_id,)
    assert tiny_pieces(begin=False).prefix == ()
    assert PIECES.prefix[0] not in PIECES.literal("x y")


def test_literals_keep_special_tokens_and_user_text_does_not() -> None:
    text = "".join(SPECIAL)
    assert PIECES.literal(text) == PIECES.tokenizer.convert_tokens_to_ids(list(SPECIAL))
    assert PIECES.tokenizer.decode(PIECES.user_text(text, 100)) == text


@given(st.text(max_size=60), st.sampled_from(["", *SPECIAL]), st.text(max_size=60))
def test_no_text_becomes_a_special_token(before: str, special: str, after: str) -> None:
    ids = PIECES.user_text(before + special + after, 48)
    assert len(ids) <= 48
    assert not set(ids) & set(PIECES.tokenizer.all_special_ids)


def test_the_embedded_models_special_tokens_are_ordinary_text() -> None:
    pieces = load_tokenizer(resolve_model("smollm2-135m").path)
    specials = pieces.tokenizer.all_special_tokens
    assert len(specials) > 2
    ids = pieces.user_text(" ".join(specials), 1000)
    assert not set(ids) & set(pieces.tokenizer.all_special_ids)
    assert pieces.tokenizer.decode(ids) == " ".join(specials)


@given(st.text())
def test_cleaned_text_is_one_line_without_controls_or_double_quotes(text: str) -> None:
    line = cleaned(text)
    assert line.isprintable() or not any(ord(char) < 32 or ord(char) == 127 for char in line)
    assert '"' not in line
    assert "\n" not in line


def test_cleaning_by_hand() -> None:
    assert cleaned(' The\t"Bad"\r\n  Seed\x00\ud800 ') == "The 'Bad' Seed"


def test_an_empty_text_has_no_ids_even_with_a_lead() -> None:
    assert PIECES.user_text(" \x00\n", 10, lead=" ") == ()
    assert PIECES.literal("") == []


def test_chat_frame_surrounds_the_turn() -> None:
    assert PIECES.chat_frame() == ("<|im_start|>user\n", "<|im_end|>\n<|im_start|>assistant\n")


def test_what_a_tokenizer_must_have() -> None:
    without_end, without_template = tiny_tokenizer(), tiny_tokenizer()
    without_end.eos_token = None
    without_template.chat_template = None
    with pytest.raises(ModelError, match="eos_token"):
        PieceTokenizer(without_end)
    with pytest.raises(ModelError, match=r"llm\.chat_template=false"):
        PieceTokenizer(without_template).chat_frame()
