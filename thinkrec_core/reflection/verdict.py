"""The verdict in an answer: its first word yes or no.

A substring test would find "No" in "Novel" and "Yes" in "Yesterday"; here the word must stand alone, outside a thinking
block, outside quoted passages and outside the titles that the teacher was shown.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from thinkrec_core.reflection.thinking import QUOTED, split_thinking

Word = Literal["yes", "no"]

# A letter, digit, apostrophe or hyphen on either side makes it part of another word: Novel, know, no-one.
_WORD = re.compile(r"(?<![^\W_])(?<![^\W_]['’\-])(yes|no)(?![^\W_])(?!['’\-][^\W_])", re.IGNORECASE)
# "Yes or No" is the question come back, not an answer to it.
_BOTH = re.compile(r"\b(?:yes\W{0,3}(?:or|/)\W{0,3}no|no\W{0,3}(?:or|/)\W{0,3}yes)\b", re.IGNORECASE)
_BARE = re.compile(r"[\W_]*(?:yes|no)[\W_]*", re.IGNORECASE)


@dataclass(frozen=True)
class Verdict:
    """A verdict and where it stands: `text[start:end]` of the text that was searched."""

    word: Word
    start: int
    end: int


def visible(text: str) -> str:
    """`text` without thinking: <think> blocks, one that never closes, and one whose opening the template swallowed."""
    return split_thinking(text)[1]


def find_verdict(text: str, titles: Iterable[str] = ()) -> Verdict | None:
    """The first word yes or no in `text`, or None.

    Quoted passages do not count, unless yes or no is all they say; nor does the question itself ("Yes or No?").

    Args:
        titles: of the dialogue; where the text repeats one of several words, with or without quotes, it is skipped. One
            that is nothing but yes or no is skipped in quotes; without them nobody could tell it from a verdict.
    """
    titles = tuple(titles)
    bare = {_letters(title) for title in titles if _BARE.fullmatch(title)}

    def blank_titles(match: re.Match[str]) -> str:
        is_verdict = _BARE.fullmatch(match.group()) and _letters(match.group()) not in bare
        return match.group() if is_verdict else _blank(match)

    searched = without_titles(QUOTED.sub(blank_titles, text), titles, _WORD)
    match = _WORD.search(_BOTH.sub(_blank, searched))
    if match is None:
        return None
    return Verdict("yes" if match.group(1).lower() == "yes" else "no", match.start(1), match.end(1))


def parse_verdict(text: str, titles: Iterable[str] = ()) -> Word | None:
    """The verdict of an answer as the teacher sent it, thinking blocks included; None if it has none."""
    found = find_verdict(visible(text), titles)
    return found.word if found else None


def without_titles(text: str, titles: Iterable[str], pattern: re.Pattern[str]) -> str:
    """`text` with blanks for those of `titles` in which `pattern` would find something; a bare yes or no stays."""
    for title in titles:
        if pattern.search(title) and not _BARE.fullmatch(title):
            text = re.sub(re.escape(title), _blank, text, flags=re.IGNORECASE)
    return text


def _blank(match: re.Match[str]) -> str:
    return " " * len(match.group())


def _letters(text: str) -> str:
    return re.sub(r"[\W_]", "", text).lower()
