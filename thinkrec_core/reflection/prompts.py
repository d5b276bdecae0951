"""The words of the dialogue with the teacher: system, question, hints.

Titles and keywords come from outside. They are put in quotes and cleaned, so that whatever a title says stays a title.
Change a word here and PROMPT_VERSION with it: the version is stored beside every reflection.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from typing import Literal, TypedDict

PROMPT_VERSION = "1"

Style = Literal["reasoning", "instruct"]
TITLE_LIMIT = 200
"""Characters of a title or of keywords that the teacher sees."""


class Message(TypedDict):
    """One turn of a chat."""

    role: Literal["system", "user", "assistant"]
    content: str


@dataclass(frozen=True)
class Case:
    """One wrong prediction as the teacher sees it; it names no user.

    Attributes:
        label: the gold label, 1 liked, 0 not.
        title: of the target.
        keywords: of the target; empty where unknown.
        history: (title, label) of earlier items, oldest first.
    """

    label: int
    title: str
    keywords: str
    history: tuple[tuple[str, int], ...]


SYSTEM: dict[Style, str] = {
    "reasoning": (
        "You predict whether a user will like an item, from the items that the user rated before. Weigh what the liked "
        "items have in common, what the disliked ones have in common, and which of them the new item is closest to."
    ),
    "instruct": (
        "You predict whether a user will like an item, from the items that the user rated before. You begin with Yes or "
        "No and then give your reasons in plain sentences."
    ),
}

ASK: dict[Style, str] = {
    "reasoning": "Think it through, then answer with one word: Yes or No.",
    "instruct": (
        "Begin with the word Yes or No. Then write two or three sentences about the user's taste that explain your answer."
    ),
}

HINTS: tuple[str, ...] = (
    "The correct answer is {answer}. Go through the history once more, find what you overlooked, and analyse the case again.",
    "In fact it is {answer}. Which earlier items point there? Say what your first analysis missed and reason again.",
    "Your verdict does not match what the user did: {answer} is right. Look at the history afresh and explain why.",
    "The user's real reaction means {answer}. Work out which signs in the history announced it, and redo the analysis.",
    "It should have been {answer}. Reflect on the liked and the disliked items, name the oversight, and analyse anew.",
    "Take {answer} as settled. Explain from the history why that had to be expected, and correct your earlier reasoning.",
)
"""Paraphrases that give the right answer away; each is used once at most in a dialogue."""

CLOSING: dict[Style, str] = {
    "reasoning": " End with one word: {answer}.",
    "instruct": (
        ' Begin with "{answer}." and then write two or three sentences about this user\'s taste. Do not mention this note.'
    ),
}


def question(case: Case, style: Style) -> tuple[Message, ...]:
    """The opening of a dialogue: a system and a user message with history, labels and target."""
    lines = [f"- {quoted(title)}: {'liked' if label else 'disliked'}" for title, label in case.history]
    history = (
        "\n".join(["The user rated these items, oldest first:", *lines]) if lines else "The user rated nothing yet."
    )
    about = f" ({quoted(case.keywords)})" if case.keywords.strip() else ""
    return (
        {"role": "system", "content": SYSTEM[style]},
        {
            "role": "user",
            "content": f"{history}\n\nWill the user like {quoted(case.title)}{about}? {ASK[style]}",
        },
    )


def hint(hint_id: int, label: int, style: Style) -> Message:
    """The user turn of hint `hint_id` (0 to 5) for the gold `label`."""
    return {"role": "user", "content": (HINTS[hint_id] + CLOSING[style]).format(answer=answer_word(label))}


def answer_word(label: int) -> Literal["Yes", "No"]:
    """The word for a gold label."""
    return "Yes" if label else "No"


def quoted(text: str) -> str:
    """`text` between double quotes, on one line, without anything that could close them or act as a chat token.

    Control, format and unassigned characters become spaces, double quotes single ones, and angle brackets guillemets:
    servers read "<|im_end|>" or "<think>" inside a message as the token of that name.
    """
    plain = "".join(" " if unicodedata.category(character) in _INVISIBLE else character for character in text)
    line = " ".join(plain.translate(_REPLACED).split())
    return f'"{line if len(line) <= TITLE_LIMIT else line[: TITLE_LIMIT - 1].rstrip() + "…"}"'


_INVISIBLE = frozenset({"Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp"})
_REPLACED = str.maketrans({'"': "'", "“": "'", "”": "'", "„": "'", "«": "'", "»": "'", "<": "‹", ">": "›"})
