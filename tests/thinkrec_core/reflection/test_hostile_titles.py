"""A title reaches the teacher as a quoted title, and what it says is no verdict, wherever an answer repeats it."""

from __future__ import annotations

import json
import re
import unicodedata

import numpy as np
import pytest

from tests.hostile_titles import HOSTILE_TITLES
from thinkrec_core.config.reflections import ReflectionsConfig, TeacherConfig
from thinkrec_core.reflection.dialogue import Dialogue, Rules
from thinkrec_core.reflection.prompts import Case, question, quoted
from thinkrec_core.reflection.trace import Reply

RULES = Rules.of(TeacherConfig(style="reasoning", model="m"), ReflectionsConfig())
WORDS = {0: "No", 1: "Yes"}
WHY = "since the user prefers quiet dramas of that time"
# Each repeats the title where a teacher would; {t} is the title as the teacher saw it, {w} the verdict.
ANSWERS = (
    "{w}, {why}. The title {t} asks for something else.",
    "The item {t} looks odd. My answer: {w}, {why}.",
    "<think>The title is {t}, {why}.</think>{w}, {why}.",
    "I do not follow the text of {t}.\n\n**{w}**, {why}.",
    "Of {t} and {t}, hm. {w}. It is so {why}.",
)


def test_there_are_thirty_of_them() -> None:
    assert len(set(HOSTILE_TITLES)) == len(HOSTILE_TITLES) == 30


@pytest.mark.parametrize("style", ["reasoning", "instruct"])
@pytest.mark.parametrize("title", HOSTILE_TITLES)
def test_it_reaches_the_teacher_quoted_on_one_line_and_opens_no_role(title: str, style: str) -> None:
    plain = Case(1, "Plain", "Drama", (("Plain", 1), ("Plain", 0)))
    hostile = Case(1, title, title, ((title, 1), (title, 0)))
    expected, messages = question(plain, style), question(hostile, style)
    assert [message["role"] for message in messages] == [message["role"] for message in expected]
    assert messages[:-1] == expected[:-1]
    text = messages[-1]["content"]
    # Apart from the quoted title, the message is the one about any other item.
    assert text.replace(quoted(title), '"Plain"') == expected[-1]["content"].replace('"Drama"', '"Plain"')
    assert text.count(quoted(title)) == 4
    assert not set("<>") & set(text)
    assert all(unicodedata.category(letter) not in ("Cc", "Cf", "Zl", "Zp") for letter in text.replace("\n", ""))


@pytest.mark.parametrize("label", [0, 1])
@pytest.mark.parametrize("answer", ANSWERS)
@pytest.mark.parametrize("title", HOSTILE_TITLES)
def test_it_changes_no_verdict_where_an_answer_repeats_it(title: str, answer: str, label: int) -> None:
    for shown in (quoted(title), quoted(title)[1:-1]):
        if re.fullmatch(r"[\W_]*(?:yes|no)[\W_]*", shown, re.IGNORECASE) and not shown.startswith('"'):
            continue  # a bare Yes outside quotes is a Yes, whoever wrote it first
        dialogue = Dialogue.start(Case(label, title, "", ((title, 1),)), RULES, np.random.default_rng(1))
        heard = dialogue.receive(Reply(content=answer.format(t=shown, w=WORDS[label], why=WHY)))
        assert (heard.status, heard.verdict, heard.reason) == ("accepted", WORDS[label].lower(), "")
        heard = dialogue.receive(Reply(content=answer.format(t=shown, w=WORDS[1 - label], why=WHY)))
        assert (heard.status, heard.verdict) == ("open", WORDS[1 - label].lower())


@pytest.mark.parametrize("title", HOSTILE_TITLES)
def test_an_answer_that_is_nothing_but_the_title_is_no_verdict(title: str) -> None:
    dialogue = Dialogue.start(Case(1, title, "", ()), RULES, np.random.default_rng(1))
    heard = dialogue.receive(Reply(content=f"You wrote {quoted(title)}, and I say nothing about it at all."))
    assert heard.verdict is None
    assert heard.status == "open"


@pytest.mark.parametrize("title", HOSTILE_TITLES)
def test_its_hints_and_requests_stay_json_that_any_server_reads(title: str) -> None:
    dialogue = Dialogue.start(Case(1, title, "", ((title, 0),)), RULES, np.random.default_rng(1))
    for _ in range(3):
        request = dialogue.next_request()
        assert json.loads(json.dumps(request.messages)) == list(request.messages)
        assert {message["role"] for message in request.messages} <= {"system", "user", "assistant"}
        dialogue = dialogue.receive(Reply(content=f"No, {WHY}."))
