"""ROUGE-L (Lin, 2004): how much of two texts runs through both in one order."""

from __future__ import annotations

from collections.abc import Sequence


def common_length(one: Sequence[str], other: Sequence[str]) -> int:
    """Length of the longest common subsequence.

    One integer holds a row of the usual table as bits (Hyyrö, 2004), so a text costs one addition per token.
    """
    places: dict[str, int] = {}
    for place, token in enumerate(other):
        places[token] = places.get(token, 0) | (1 << place)
    full = (1 << len(other)) - 1
    row = full
    for token in one:
        matches = row & places.get(token, 0)
        row = ((row + matches) | (row - matches)) & full
    return len(other) - row.bit_count()


def rouge_l(hypothesis: Sequence[str], reference: Sequence[str]) -> float:
    """F1 of the longest common subsequence in 0..1; 0 where a text is empty.

    Formula: 2 P R / (P + R) with P = common / len(hypothesis), R = common / len(reference).
    """
    total = len(hypothesis) + len(reference)
    return 2 * common_length(hypothesis, reference) / total if hypothesis and reference else 0.0
