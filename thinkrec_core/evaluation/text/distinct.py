"""Distinct-n (Li et al., NAACL 2016): whether a model says something else each time, or one phrase to everybody."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def distinct(texts: Iterable[Sequence[str]], n: int) -> float | None:
    """Different n-grams over all n-grams of the texts together; None if no text has n tokens.

    It falls with the amount of text, so compare it only between equally many texts of about one length.
    """
    total, seen = 0, set()
    for tokens in texts:
        grams = list(zip(*(tokens[start:] for start in range(n)), strict=False))
        total += len(grams)
        seen.update(grams)
    return len(seen) / total if total else None
