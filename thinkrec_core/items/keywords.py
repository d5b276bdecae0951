"""Item keywords: which items need some, how a teacher is asked for them, and what of its answer counts (method, section 1).

Genres serve as they are. Where a source has a description instead, or categories by the dozen, a language model condenses
them to at most ten keywords. Titles and descriptions come from outside: they are put in quotes and cleaned.
"""

from __future__ import annotations

import html
import re
import unicodedata
from typing import Literal, TypedDict

MOST = 10
"""Keywords of an item."""
LONGEST = 40
"""Characters of a keyword; longer ones are sentences."""
DESCRIPTION_LIMIT = 1000
"""Characters of a description that are kept and shown."""
TITLE_LIMIT = 200
CATEGORIES_LIMIT = 400


class Message(TypedDict):
    """One turn of a chat."""

    role: Literal["system", "user", "assistant"]
    content: str


SYSTEM = (
    "You name what an item is about. You answer with at most ten short keywords, separated by commas, and nothing else."
)
EXAMPLE: tuple[Message, ...] = (
    {
        "role": "user",
        "content": 'Title: "Salt Roads"\nDescription: "How traders carried salt through the deserts of the middle ages, '
        'and the towns that grew rich on it."\nKeywords:',
    },
    {"role": "assistant", "content": "history, trade, salt, desert, middle ages, travel"},
)
"""Shows the form: a small model copies what it saw."""


def needs_condensing(keywords: str, description: str) -> bool:
    """Whether a teacher has something to condense: a description without keywords, or more than `MOST` categories."""
    return bool(description) if not keywords else keywords.count(",") >= MOST


def question(title: str, keywords: str, description: str) -> tuple[Message, ...]:
    """The conversation that asks for the keywords of one item."""
    lines = [f"Title: {cleaned(title, TITLE_LIMIT)}"]
    if keywords:
        lines.append(f"Categories: {cleaned(keywords, CATEGORIES_LIMIT)}")
    if description:
        lines.append(f"Description: {cleaned(description, DESCRIPTION_LIMIT)}")
    asked = "\n".join([*lines, "Keywords:"])
    return ({"role": "system", "content": SYSTEM}, *EXAMPLE, {"role": "user", "content": asked})


def parse_keywords(answer: str) -> tuple[str, ...]:
    """The keywords in the visible `answer` of a teacher, in its order and without repetitions; empty if there are none.

    Understood are lists by commas, semicolons or lines, with or without bullets, numbers, quotes, brackets and a heading.
    Sentences are no keywords.
    """
    text = re.sub(r"```\w*", "\n", answer)
    text = re.sub(r"(?im)^.{0,60}\bkeywords?\b[^:\n]{0,40}:", "\n", text)
    found: dict[str, str] = {}
    for part in re.split(r"[,;\n|\[\]{}]", text):
        word = re.sub(r"^(?:[-*•–]|\d{1,2}[.)])\s+", "", part.strip())
        if _SENTENCE.search(word):
            continue
        word = " ".join(word.strip("\"'“”‘’*_`.: ").split())
        if word and len(word) <= LONGEST and any(map(str.isalnum, word)):
            found.setdefault(word.casefold(), word)
    return tuple(found.values())[:MOST]


def cleaned(text: str, limit: int) -> str:
    """`text` between double quotes, on one line, without markup and without anything that could close them."""
    plain = html.unescape(re.sub(r"<[^<>]{1,200}>", " ", text))
    plain = "".join(" " if unicodedata.category(character)[0] in "CZ" else character for character in plain)
    line = " ".join(plain.translate(_REPLACED).split())
    return f'"{line if len(line) <= limit else line[: limit - 1].rstrip() + "…"}"'


_SENTENCE = re.compile(r"\w{2}[.!?:]\s|\S\s+\S+\s+\S.*[.!?]$")
"""A full stop between words, or after three of them."""
_REPLACED = str.maketrans({'"': "'", "“": "'", "”": "'", "„": "'", "«": "'", "»": "'", "<": "‹", ">": "›"})
