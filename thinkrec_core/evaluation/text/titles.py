"""Catalogue titles that a text names, and whether it may name them.

A title is found with and without its year, its parentheses and a moved article ("Usual Suspects, The"). What prose could say
by chance does not count: the first letters must be capital where the title's are, and a single word without a year must stand
in quotes ("Heat", not heat).
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from operator import ge

from thinkrec_core.reflection.thinking import QUOTED

_TOKEN = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")
_PARENTHESES = re.compile(r"\([^()]*\)")
_YEAR = re.compile(r"\((?:19|20)\d\d\)")
_MOVED = re.compile(r"^(?P<rest>.+), (?P<article>The|A|An|La|Le|Les|Il|Das|Der|Die|El|Los|Las)$")
_LEADING = re.compile(r"^(?:The|A|An) (?=.)")
QUOTED_WORDS = 12
"""A longer quoted passage is a sentence, not a title."""


@dataclass(frozen=True)
class Mention:
    """One passage of a text that names a catalogue title."""

    text: str
    """As the text has it."""
    items: frozenset[int]
    """item_idx of the titles that read so; several where titles repeat."""


@dataclass(frozen=True)
class Named:
    """What one text names."""

    mentions: tuple[Mention, ...]
    unknown: tuple[str, ...]
    """Quoted passages that begin with a capital letter or a digit and are no title of the catalogue: possibly made up."""

    def ungrounded(self, allowed: Collection[int]) -> tuple[str, ...]:
        """The mentions of titles other than the `allowed` items."""
        return tuple(mention.text for mention in self.mentions if mention.items.isdisjoint(allowed))


class TitleIndex:
    """All titles of a catalogue by the forms in which a text may name them.

    Args:
        titles: by item_idx; empty ones (the padding) name nothing.
    """

    def __init__(self, titles: Sequence[str]) -> None:
        self._forms: dict[tuple[str, ...], dict[int, tuple[bool, ...]]] = defaultdict(dict)
        lengths: dict[str, set[int]] = defaultdict(set)
        for item, title in enumerate(titles):
            for form in _forms(title):
                words = _TOKEN.findall(form)
                if words:
                    key = tuple(_plain(word) for word in words)
                    self._forms[key].setdefault(item, tuple(word[0].isupper() for word in words))
                    lengths[key[0]].add(len(words))
        self._lengths = {first: sorted(found, reverse=True) for first, found in lengths.items()}

    def named(self, text: str) -> Named:
        """The titles that `text` names, in their order; the longest title wins where several begin at one word."""
        mentions: list[tuple[int, Mention]] = []
        unknown: list[str] = []
        rest = text
        for quote in QUOTED.finditer(text):
            inside = quote.group()[1:-1].strip(" .,;:!?")
            found = self._forms.get(tuple(_plain(word) for word in _TOKEN.findall(inside)))
            if found:
                mentions.append((quote.start(), Mention(inside, frozenset(found))))
                rest = rest[: quote.start()] + " " * len(quote.group()) + rest[quote.end() :]
            elif _title_like(inside) and not any(self._scan(inside)):
                unknown.append(inside)
        mentions += self._scan(rest)
        return Named(tuple(mention for _, mention in sorted(mentions, key=lambda pair: pair[0])), tuple(unknown))

    def _scan(self, text: str) -> Iterator[tuple[int, Mention]]:
        tokens = list(_TOKEN.finditer(text))
        words = [_plain(token.group()) for token in tokens]
        capital = [token.group()[0].isupper() for token in tokens]
        at = 0
        while at < len(tokens):
            for length in self._lengths.get(words[at], ()):
                end = at + length
                if length == 1 or end > len(tokens) or not (capital[at] or words[at][0].isdigit()):
                    continue
                forms = self._forms.get(tuple(words[at:end]), {})
                items = {item for item, wanted in forms.items() if all(map(ge, capital[at:end], wanted))}
                if items:
                    start = tokens[at].start()
                    yield start, Mention(text[start : tokens[end - 1].end()], frozenset(items))
                    at = end
                    break
            else:
                at += 1


def _forms(title: str) -> set[str]:
    """The title as it is; without parentheses; with its article in front or left out; each of these with its year."""
    plain, year = _PARENTHESES.sub("", title).strip(), " ".join(_YEAR.findall(title))
    moved = _MOVED.match(plain)
    front = f"{moved['article']} {moved['rest']}" if moved else plain
    short = {plain, front, _LEADING.sub("", front)}
    return {title, _YEAR.sub("", title).strip(), *short, *(f"{form} {year}" for form in short)}


def _plain(word: str) -> str:
    return word.casefold().replace("'", "").replace("’", "")


def _title_like(text: str) -> bool:
    return bool(text) and (text[0].isupper() or text[0].isdigit()) and len(text.split()) <= QUOTED_WORDS
