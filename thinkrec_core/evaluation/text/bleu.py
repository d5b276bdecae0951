"""BLEU (Papineni et al., ACL 2002) from counts per text, so that a resample of texts is a weighted sum of counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from thinkrec_core.evaluation.checks import FloatArray

ORDER = 4
"""Longest n-gram."""
COUNTS = 2 + 2 * ORDER
"""Numbers per text: its length, the reference's, then matched and possible n-grams of 1..ORDER."""


def bleu_counts(hypothesis: Sequence[str], reference: Sequence[str]) -> FloatArray:
    """(COUNTS,) sufficient statistics of one pair of token lists; sums of them are those of a corpus."""
    found = np.zeros(COUNTS)
    found[:2] = len(hypothesis), len(reference)
    for n in range(1, ORDER + 1):
        own, other = _ngrams(hypothesis, n), _ngrams(reference, n)
        found[1 + n] = sum((own & other).values())
        found[1 + ORDER + n] = max(0, len(hypothesis) - n + 1)
    return found


def bleu(counts: npt.ArrayLike, effective_order: bool = False) -> FloatArray:
    """(...,) BLEU in 0..1 of (..., COUNTS) counts.

    Formula: exp(min(0, 1 - reference / length)) * (p_1 p_2 p_3 p_4)^(1/4), p_n = matched / possible n-grams. The i-th p_n
    without a match becomes 1 / (2^i * possible), the exponential smoothing that sacrebleu uses by default. Without a matched
    word BLEU is 0.

    Args:
        effective_order: take the mean over those n that the text is long enough for; for figures of single texts.
    """
    array = np.asarray(counts, dtype=np.float64)
    length, reference = array[..., 0], array[..., 1]
    matched, possible = array[..., 2 : 2 + ORDER], array[..., 2 + ORDER :]
    missed = (matched == 0) & (possible > 0)
    smoothed = np.where(missed, 0.5 ** np.cumsum(missed, axis=-1), matched)
    with np.errstate(divide="ignore", invalid="ignore"):
        log_p = np.where(possible > 0, np.log(smoothed) - np.log(possible), 0.0 if effective_order else -np.inf)
        orders = np.maximum((possible > 0).sum(axis=-1), 1) if effective_order else ORDER
        brevity = np.where(length < reference, 1.0 - reference / length, 0.0)
        score = np.exp(brevity + log_p.sum(axis=-1) / orders)
    return np.asarray(np.where(matched.any(axis=-1), score, 0.0))


def _ngrams(tokens: Sequence[str], n: int) -> Counter[tuple[str, ...]]:
    return Counter(zip(*(tokens[start:] for start in range(n)), strict=False))
