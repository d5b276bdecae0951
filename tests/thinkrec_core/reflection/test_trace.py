from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thinkrec_core.reflection.trace import Reply, extract_trace, mentions_hint


def test_the_sources_of_a_trace_come_in_one_order() -> None:
    content = "<think>third</think>Yes. Fourth."
    assert extract_trace(Reply(content, "first", "second")) == "first"
    assert extract_trace(Reply(content, "", "second")) == "second"
    assert extract_trace(Reply(content)) == "third"
    assert extract_trace(Reply("Yes. Fourth.")) == "Fourth."
    assert extract_trace(Reply(content, " \n", "second")) == "second"


@pytest.mark.parametrize(
    ("content", "trace"),
    [
        ("No.\n\nThe user\tdislikes   horror.", "The user dislikes horror."),
        ("**No** - because of the genre.", "because of the genre."),
        ("The answer is Yes: it is a comedy.", "it is a comedy."),
        ('Yes, "Heat (1995)" is close.', 'Heat (1995)" is close.'),
        ("Yes.", ""),
        ("I cannot say.", ""),
        ("", ""),
        ("it was swallowed</think>Yes", "it was swallowed"),
        ("<think>one</think><think>two</think>No", "one two"),
        ("<think></think>No. But told.", "But told."),
        ('{"reason": "No doubt about the genre.", "verdict": "yes"}', "No doubt about the genre."),
        ('{"verdict": "yes"}', ""),
    ],
)
def test_the_trace_of_a_content(content: str, trace: str) -> None:
    assert extract_trace(Reply(content)) == trace


def test_the_answer_is_the_content_without_thinking() -> None:
    assert Reply("<think>a</think> Yes. ").answer == "Yes."
    assert Reply("<think>never closed").answer == ""


@pytest.mark.parametrize(
    "trace",
    [
        "The correct answer is No, so ...",
        "Since the RIGHT ANSWER was given",
        "As you said, the user disliked it.",
        "I was told that it is yes.",
        "You told me that it is no.",
        "My first analysis missed the genre.",
        "The hint points to the genre.",
        "I apologize for the confusion.",
    ],
)
def test_a_trace_that_speaks_of_the_hint_is_found(trace: str) -> None:
    assert mentions_hint(trace)


@pytest.mark.parametrize(
    "trace",
    [
        "",
        "The user likes comedies with a hint of romance.",
        "It ends on a dark note and the user is right at home in noir.",
        "The answer to all this is that the genre fits.",
        "The right film for a user who liked thrillers.",
    ],
)
def test_ordinary_reasons_are_no_leak(trace: str) -> None:
    assert not mentions_hint(trace)


@given(st.text(max_size=80), st.text(max_size=80), st.text(max_size=80))
def test_a_trace_is_one_line_without_outer_spaces(content: str, first: str, second: str) -> None:
    trace = extract_trace(Reply(content, first, second))
    assert trace == " ".join(trace.split())
