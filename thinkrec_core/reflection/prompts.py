"""The words of the dialogue with the teacher: system, question, hints.

Titles and keywords come from outside. They are put in quotes and cleaned, so that whatever a title says stays a title.
Change a word here and PROMPT_VERSION with it: the version is stored beside every reflection.
"""

from __future__ import annotations

import functools
import unicodedata
from dataclasses import dataclass
from typing import Literal, TypedDict

PROMPT_VERSION = "2"

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
    "instruct": "Answer Yes or No, then give your reasons in two sentences.",
}

HINTS: dict[Style, tuple[str, ...]] = {
    "reasoning": (
        "The correct answer is {answer}. Go through the history once more, find what you overlooked, and analyse anew.",
        "In fact it is {answer}. Which earlier items point there? Say what your first analysis missed and reason again.",
        "Your verdict does not match what the user did: {answer} is right. Look at the history afresh and explain why.",
        "The user's real reaction means {answer}. Work out which signs in the history announced it, and analyse again.",
        "It should have been {answer}. Reflect on the liked and the disliked items, name the oversight, and analyse anew.",
        "Take {answer} as settled. Explain from the history why that had to be expected, and correct your reasoning.",
    ),
    # A small model follows one fixed sentence with the answer in it; the rest may vary.
    "instruct": (
        "The correct answer is {answer}. Look at the ratings again and say why the user {did} it.",
        "The correct answer is {answer}. Go through the history once more and say why the user {did} it.",
        "The correct answer is {answer}. You overlooked something: say again why the user {did} it.",
        "The correct answer is {answer}. Reflect on the likes and dislikes and say why the user {did} it.",
        "The correct answer is {answer}. Analyse the ratings anew and say why the user {did} it.",
        "The correct answer is {answer}. Correct the oversight and say why the user {did} it.",
    ),
}
"""Six paraphrases per style that give the right answer away; each is used once at most in a dialogue."""

HINT_COUNT = len(HINTS["reasoning"])
CLOSING: dict[Style, str] = {"reasoning": " End with one word: {answer}.", "instruct": ""}


def question(case: Case, style: Style) -> tuple[Message, ...]:
    """The opening of a dialogue: a system and a user message with history, labels and target."""
    return (
        {"role": "system", "content": SYSTEM[style]},
        *(EXAMPLES if style == "instruct" else ()),
        {"role": "user", "content": _asked(case, style)},
    )


def hint(hint_id: int, label: int, style: Style) -> Message:
    """The user turn of hint `hint_id` (0 to 5) for the gold `label`."""
    did = "liked" if label else "disliked"
    text = (HINTS[style][hint_id] + CLOSING[style]).format(answer=answer_word(label), did=did)
    return {"role": "user", "content": text}


def answer_word(label: int) -> Literal["Yes", "No"]:
    """The word for a gold label."""
    return "Yes" if label else "No"


def _asked(case: Case, style: Style) -> str:
    lines = [f"- {quoted(title)}: {'liked' if label else 'disliked'}" for title, label in case.history]
    history = (
        "\n".join(["A user rated these items, oldest first:", *lines]) if lines else "A user rated nothing so far."
    )
    about = f" ({quoted(case.keywords)})" if case.keywords.strip() else ""
    return f"{history}\n\nWill the user like {quoted(case.title)}{about}? {ASK[style]}"


@functools.lru_cache(maxsize=65536)
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


def _examples() -> tuple[Message, ...]:
    """A short conversation about made-up items that shows the form: verdict first, reasons, and how a hint is taken."""
    honey = Case(0, "Honey", "Sweet", (("Pepper", 1), ("Sugar", 0), ("Salt", 1)))
    lilies = Case(1, "Lilies", "Flowers", (("Roses", 1), ("Cactus", 0), ("Tulips", 1)))
    sweet = "No. Honey is sweet, and this user disliked sugar. The user prefers pepper and salt, which are not sweet."
    garden = (
        "Yes. Lilies are garden flowers, and this user liked roses and tulips. They have little in common with cactus."
    )
    return (
        {"role": "user", "content": _asked(honey, "instruct")},
        {"role": "assistant", "content": sweet},
        {"role": "user", "content": _asked(lilies, "instruct")},
        {"role": "assistant", "content": "No. Lilies are plants, and this user disliked cactus."},
        hint(0, lilies.label, "instruct"),
        {"role": "assistant", "content": garden},
    )


EXAMPLES = _examples()
"""Shown before the question to models that do not think aloud: a small one copies the form of what it saw."""
