"""METEOR (Lavie and Agarwal, 2007): words that match exactly or by their stem, with a penalty for scattered matches.

Differs: the third stage, synonyms of WordNet, is left out. It needs a corpus that is downloaded, and figures with it are
somewhat higher. Everything else follows nltk, whose figures these equal on the same tokens without synonyms.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from functools import cache, lru_cache
from itertools import pairwise
from typing import Any

ALPHA, BETA, GAMMA = 0.9, 3.0, 0.5
"""Weight of precision in the mean, exponent and weight of the penalty."""

Placed = list[tuple[int, str]]
"""(position, word) pairs, ascending."""


def meteor(hypothesis: Sequence[str], reference: Sequence[str]) -> float:
    """METEOR in 0..1 of two lists of lowered tokens; 0 without a match.

    Formula: (1 - GAMMA (chunks / m)^BETA) * P R / (ALPHA P + (1 - ALPHA) R), with m matched words, P = m / len(hypothesis),
    R = m / len(reference), and chunks the runs of matches that are adjacent in both texts.
    """
    own, other = list(enumerate(hypothesis)), list(enumerate(reference))
    exact, own, other = _matched(own, other)
    stemmed, _, _ = _matched([(at, stem(word)) for at, word in own], [(at, stem(word)) for at, word in other])
    pairs = sorted(exact + stemmed)
    if not pairs:
        return 0.0
    precision, recall = len(pairs) / len(hypothesis), len(pairs) / len(reference)
    mean = precision * recall / (ALPHA * precision + (1 - ALPHA) * recall)
    adjacent = sum(later == (before[0] + 1, before[1] + 1) for before, later in pairwise(pairs))
    return (1 - GAMMA * ((len(pairs) - adjacent) / len(pairs)) ** BETA) * mean


@lru_cache(maxsize=100_000)
def stem(word: str) -> str:
    """The stem of `word` by Porter's algorithm with nltk's extensions."""
    return str(_stemmer().stem(word))


def _matched(own: Placed, other: Placed) -> tuple[list[tuple[int, int]], Placed, Placed]:
    """Pairs of equal words, and what is left of both: each word from the end takes the last free place in the other text."""
    places: dict[str, list[int]] = defaultdict(list)
    for at, word in other:
        places[word].append(at)
    pairs = [(at, places[word].pop()) for at, word in reversed(own) if places.get(word)]
    taken_own, taken_other = {at for at, _ in pairs}, {at for _, at in pairs}
    return pairs, [pair for pair in own if pair[0] not in taken_own], [p for p in other if p[0] not in taken_other]


@cache
def _stemmer() -> Any:
    from nltk.stem.porter import PorterStemmer  # a second or two: only where METEOR is asked for

    return PorterStemmer()
