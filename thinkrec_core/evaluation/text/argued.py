"""The verdict that a text argues for: what its last sentence with a verdict says.

A sentence has a verdict if the parser of the teacher's answers finds yes or no in it, or if it predicts ("would enjoy",
"is unlikely to like"). Reasons often state no verdict at all; then there is none to compare with a score.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from thinkrec_core.reflection.verdict import Word, find_verdict

_SENTENCE = re.compile(r"(?<=[.!?])[\"'”’)]*\s+")
_PREDICTION = re.compile(
    r"(?P<before>\b(?:not|never|n['’]t)\s+(?:\w+\s+)?)?"
    r"\b(?P<modal>will|would|should|may|might|could|won['’]t|wouldn['’]t|(?:likely|unlikely|going|inclined|sure|bound)\s+to)\b"
    r"(?P<between>(?:\s+[\w'’]+){0,3}?)"
    r"\s+(?P<verb>like|enjoy|love|appreciate|dislike|hate)\b",
    re.IGNORECASE,
)
_NO = re.compile(r"n['’]t\b|\b(?:not|never|hardly)\b|\bunlikely\b", re.IGNORECASE)


def argued_verdict(text: str, titles: Sequence[str] = ()) -> Word | None:
    """The verdict of the last sentence of `text` that has one; None if none has.

    Args:
        titles: words of these mean nothing, such as the "No" of "No Country for Old Men".
    """
    for sentence in reversed(_SENTENCE.split(text)):
        found = find_verdict(sentence, titles)
        if found is not None:
            return found.word
        predictions = list(_PREDICTION.finditer(sentence))
        if predictions:
            last = predictions[-1]
            negations = bool(last["before"]) + bool(_NO.search(f"{last['modal']} {last['between']}"))
            likes = last["verb"].lower() not in ("dislike", "hate")
            return "yes" if likes == (negations % 2 == 0) else "no"
    return None
