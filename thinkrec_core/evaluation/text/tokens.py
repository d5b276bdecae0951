"""How each metric cuts a text into tokens: as its reference implementation does, since figures move with it."""

from __future__ import annotations

import re

_ROUGE = re.compile(r"[a-z0-9]+")
_METEOR = re.compile(r"\w+|[^\w\s]")
_13A = (
    (re.compile(r"([\{-\~\[-\` -\&\(-\+\:-\@\/])"), r" \1 "),
    (re.compile(r"([^0-9])([\.,])"), r"\1 \2 "),  # a period or comma, unless it follows a digit
    (re.compile(r"([\.,])([^0-9])"), r" \1 \2"),  # ... or precedes one
    (re.compile(r"([0-9])(-)"), r"\1 \2 "),
)
_ENTITIES = (("&quot;", '"'), ("&amp;", "&"), ("&lt;", "<"), ("&gt;", ">"))


def bleu_tokens(text: str) -> list[str]:
    """Tokens of the scheme 13a (mteval-v13a, the default of sacrebleu); case is kept."""
    text = text.replace("<skipped>", "").replace("-\n", "").replace("\n", " ")
    for entity, character in _ENTITIES:
        text = text.replace(entity, character)
    text = f" {text} "
    for pattern, spaced in _13A:
        text = pattern.sub(spaced, text)
    return text.split()


def rouge_tokens(text: str) -> list[str]:
    """Runs of a-z and 0-9 of the lowered text, as the package rouge_score takes them without its stemmer."""
    return _ROUGE.findall(text.lower())


def meteor_tokens(text: str) -> list[str]:
    """Words and single punctuation marks of the lowered text.

    Differs: METEOR is often computed on Treebank tokens, which differ in contractions ("don't") and quotes.
    """
    return _METEOR.findall(text.lower())
