from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thinkrec_core.reflection.verdict import find_verdict, parse_verdict, visible


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Yes", "yes"),
        ("no", "no"),
        ("**No**", "no"),
        ("_Yes_, surely", "yes"),
        ("The answer is: no.", "no"),
        ("'Yes'", "yes"),
        ('{"answer": "no"}', "no"),
        ('{"verdict": "YES", "why": "no reason"}', "yes"),
        ("No—because of the genre", "no"),
        ("Yes- the user likes it", "yes"),
        ("Yes. No other film is like it.", "yes"),
        ("\n\n  NO!\n", "no"),
        ("<think>yes yes</think>No", "no"),
        ("<think>No</think>\n\n<think>no</think> Yes.", "yes"),
        ("the template opened it; no?</think> Yes", "yes"),
        ('The user liked "Dr. No (1962)", so yes.', "yes"),
        ("After “Yes, Madam” the answer is no", "no"),
        ("Yes or No? No.", "no"),
        ("yes/no: Yes", "yes"),
        ('<think>The title "</think> Yes" is odd.</think> No.', "no"),
        ('No. The title "</think> Yes" is odd.', "no"),
        ("<think>hm</think> No. A later </think> Yes changes nothing.", "no"),
        ('<think>a 5" disc</think> "No"', "no"),
    ],
)
def test_the_first_word_yes_or_no_is_the_verdict(text: str, expected: str) -> None:
    assert parse_verdict(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Novel, know, none, not, nothing, unknown, Yesterday, eyes",
        "no-one would",
        "anti-no",
        "No's",
        "<think>Yes, it must be yes",
        "<think>no</think>",
        'It resembles "No Country for Old Men (2007)".',
    ],
)
def test_other_words_titles_and_thinking_are_no_verdict(text: str) -> None:
    assert parse_verdict(text) is None


@pytest.mark.parametrize("piece", ["<think>", "</think>", "“", '"', "«", "yes or ", "\n"])
def test_hostile_repetition_is_read_in_linear_time(piece: str) -> None:
    assert parse_verdict(piece * (200_000 // len(piece))) in (None, "yes")


def test_the_place_of_a_verdict_counts_quoted_titles() -> None:
    text = 'Like "Dr. No" this is: No.'
    found = find_verdict(text)
    assert found is not None
    assert (found.word, text[found.start : found.end], found.start) == ("no", "No", 23)


letters = st.text(st.characters(categories=["L", "N"]), min_size=1, max_size=8)


@given(before=letters, word=st.sampled_from(["yes", "No", "NO"]))
def test_a_word_that_only_contains_the_letters_is_none(before: str, word: str) -> None:
    assert parse_verdict(before + word) is None
    assert parse_verdict(word + before) is None


@given(
    word=st.sampled_from(["Yes", "no"]),
    before=st.sampled_from(["", "**", "Answer: ", "The film, then. ", '{"a": "', "(", "\n- "]),
    after=st.sampled_from(["", "**", ". Because.", ", the user", '"}', ")", "!\n", " — why"]),
    thought=st.text(max_size=40),
)
def test_decoration_and_thinking_change_nothing(word: str, before: str, after: str, thought: str) -> None:
    thought = thought.replace("<", "").replace(">", "")
    assert parse_verdict(f"<think>{thought}</think>{before}{word}{after}") == word.lower()


@given(st.text(st.sampled_from('<think>/yesno "\n'), max_size=60))
def test_any_text_is_read_without_error_and_visible_text_holds_no_open_thought(text: str) -> None:
    assert parse_verdict(text) in (None, "yes", "no")
    assert "<think>" not in visible(text)
