"""The verdict in an answer: its first word yes or no.

A substring test would find "No" in "Novel" and "Yes" in "Yesterday"; here the word must stand alone, outside a thinking
block and outside quoted titles.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

Word = Literal["yes", "no"]

_THINK_BLOCK = re.compile(r"<think>.*?</think>", re.DOTALL | re.IGNORECASE)
_THINK_REST = re.compile(r"<think>.*\Z", re.DOTALL | re.IGNORECASE)
_THINK_HEAD = re.compile(r"\A.*</think>", re.DOTALL | re.IGNORECASE)
_QUOTED = re.compile(r"\"[^\"\n]*\"|“[^”\n]*”|«[^»\n]*»")
# A letter, digit, apostrophe or hyphen on either side makes it part of another word: Novel, know, no-one.
_WORD = re.compile(r"(?<![^\W_])(?<![^\W_]['’\-])(yes|no)(?![^\W_])(?!['’\-][^\W_])", re.IGNORECASE)
_BARE = re.compile(r"[\W_]*(?:yes|no)[\W_]*", re.IGNORECASE)


@dataclass(frozen=True)
class Verdict:
    """A verdict and where it stands: `text[start:end]` of the text that was searched."""

    word: Word
    start: int
    end: int


def visible(text: str) -> str:
    """`text` without thinking: <think> blocks, one that never closes, and one whose opening the template swallowed."""
    return _THINK_HEAD.sub("", _THINK_REST.sub("", _THINK_BLOCK.sub("", text))).strip()


def find_verdict(text: str) -> Verdict | None:
    """The first word yes or no in `text`, or None. Quoted passages do not count, unless yes or no is all they say."""
    searched = _QUOTED.sub(_blank_titles, text)
    match = _WORD.search(searched)
    if match is None:
        return None
    return Verdict("yes" if match.group(1).lower() == "yes" else "no", match.start(1), match.end(1))


def parse_verdict(text: str) -> Word | None:
    """The verdict of an answer as the teacher sent it, thinking blocks included; None if it has none."""
    found = find_verdict(visible(text))
    return found.word if found else None


def _blank_titles(match: re.Match[str]) -> str:
    return match.group() if _BARE.fullmatch(match.group()) else " " * len(match.group())
