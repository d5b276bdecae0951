"""Thinking and answer in one text, told apart in one pass.

Servers without a field for thinking leave it in the content as <think>...</think>; some templates swallow the opening mark.
Marks inside double quotes are words of a title and mean nothing, unless the thinking would otherwise never end.
"""

from __future__ import annotations

import re

LONGEST_QUOTE = 400
"""Characters of a quoted passage; longer ones are no titles. The bound keeps the search linear on hostile text."""

QUOTED = re.compile(rf'"[^"\n]{{0,{LONGEST_QUOTE}}}"|“[^”\n]{{0,{LONGEST_QUOTE}}}”|«[^»\n]{{0,{LONGEST_QUOTE}}}»')
_MARK = re.compile(r"<(/?)think>", re.IGNORECASE)


def split_thinking(text: str) -> tuple[str, str]:
    """(thinking, answer) of `text`, both stripped.

    Blocks that were opened and closed are thinking, so is the rest after one that never closes, and so is the head of a
    text whose first mark closes.
    """
    if "<" not in text:
        return "", text.strip()
    thinking, answer, unclosed = _split(text, QUOTED.sub(lambda match: " " * len(match.group()), text))
    if unclosed:
        thinking, answer, _ = _split(text, text)
    return thinking, answer


def _split(text: str, searched: str) -> tuple[str, str, bool]:
    parts: dict[bool, list[str]] = {True: [], False: []}
    start, inside, marks = 0, False, 0
    for mark in _MARK.finditer(searched):
        closes = bool(mark.group(1))
        # A closing mark without an opening one ends thinking only as the first mark: later ones are talk about marks.
        parts[inside or (closes and not marks)].append(text[start : mark.start()])
        start, inside, marks = mark.end(), not closes, marks + 1
    parts[inside].append(text[start:])
    return " ".join(parts[True]).strip(), "".join(parts[False]).strip(), inside
