"""Figures of explanations: a student's reasons beside a teacher's reasons about the same rows.

Every figure stands beside its floor, what the same texts reach with the references (or scores, or histories) of other rows:
two texts about films share words whoever wrote them, so a figure alone says little. Intervals and the paired difference to the
floor come from resamples of whole users.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from thinkrec_core.evaluation.bootstrap import interval, p_value, user_weights
from thinkrec_core.evaluation.checks import FloatArray, IntArray
from thinkrec_core.evaluation.explained import (
    BoolArray,
    Explained,
    Figure,
    Parts,
    consistency,
    corpus_bleu,
    groundedness,
    overlaps,
)
from thinkrec_core.evaluation.shuffled import SHUFFLES, strangers
from thinkrec_core.evaluation.text.argued import argued_verdict
from thinkrec_core.evaluation.text.distinct import distinct
from thinkrec_core.evaluation.text.titles import Named, TitleIndex
from thinkrec_core.evaluation.text.tokens import rouge_tokens

if TYPE_CHECKING:
    from thinkrec_core.evaluation.text.embedding import TextEncoder

OVERLAP = ("meteor", "bleu", "rouge_l", "embedding_cosine", "bertscore_f1")
"""Figures that compare with a reference; the last two need an encoder."""
FIGURES = (*OVERLAP, "consistency", "groundedness")
"""Figures with a floor, in the order of the tables."""


@dataclass(frozen=True)
class Measured:
    """What `measure_explanations` gives.

    Attributes:
        figures: JSON-able; see there.
        columns: one value per row and column: the figures of the single text (None where it has none), <figure>_floor, `argued`,
            `named`, `ungrounded` and `unknown`.
    """

    figures: dict[str, Any]
    columns: dict[str, list[Any]]


def measure_explanations(
    explained: Explained,
    titles: Sequence[str],
    resamples: int,
    generator: np.random.Generator,
    encoder: TextEncoder | None = None,
    shuffles: int = SHUFFLES,
) -> Measured:
    """All figures of the explanations.

    figures has rows, users, resamples, shuffles, agreement (share of rows whose score says what the user did), metrics, distinct,
    verdicts and titles. metrics: per name of `FIGURES` value, ci, floor, floor_ci, difference {difference, ci, p}, rows (those
    that have the figure); None for the two that need an encoder where none is given. BLEU is that of the corpus. by_agreement:
    means of the overlap figures over rows whose score says what the user did, and over the others: a reference argues for
    what the user did.
    consistency: of the traces that argue for a verdict, the share that argues for the score's. groundedness: of the catalogue
    titles that traces name, the share that is known. distinct: distinct_1 and distinct_2 of the traces and of the references.

    Args:
        titles: of the catalogue, by item_idx.
        resamples: user-cluster bootstrap draws.
        encoder: for embedding_cosine and bertscore_f1.
        shuffles: other rows that each row's floor is a mean over.

    Raises:
        DataError: no rows, or unequal lengths, an empty reference, a score that is not finite.
    """
    user = np.unique(explained.users, return_inverse=True)[1]
    others = strangers(len(explained), generator, shuffles)
    index = TitleIndex(titles)
    named = [index.named(trace) for trace in explained.traces]
    argued = [
        argued_verdict(trace, [titles[item] for item in sorted(known)])
        for trace, known in zip(explained.traces, explained.known, strict=True)
    ]

    parts: dict[str, Parts | None] = dict.fromkeys(FIGURES)
    parts |= overlaps(explained, others, encoder)
    parts["consistency"] = consistency(argued, explained.says_yes, others)
    parts["groundedness"] = groundedness(named, explained.known, others)
    figures: dict[str, tuple[Figure, Figure]] = {
        name: (found.figure(user, False), found.figure(user, True))
        for name, found in parts.items()
        if found is not None
    }
    figures["bleu"] = corpus_bleu(explained, others, user)

    metrics: dict[str, Any] = dict.fromkeys(FIGURES)
    metrics |= _with_intervals(figures, user, len(others) > 0, resamples, generator)
    for name, found in parts.items():
        if found is not None:
            metrics[name]["rows"] = int((found.bottom > 0).sum())
    agrees = (explained.says_yes) == (explained.labels == 1)
    values = {
        "rows": len(explained),
        "users": int(user.max()) + 1,
        "resamples": resamples,
        "shuffles": len(others),
        "agreement": float(agrees.mean()),
        "metrics": metrics,
        "by_agreement": {"agrees": _means(parts, agrees), "disagrees": _means(parts, ~agrees)},
        "distinct": _distinct(explained),
        "verdicts": _verdict_counts(argued, explained.says_yes),
        "titles": _title_counts(named, explained.known),
    }
    return Measured(values, _columns(parts, argued, named, explained.known))


def _with_intervals(
    figures: Mapping[str, tuple[Figure, Figure]],
    user: IntArray,
    has_floor: bool,
    resamples: int,
    generator: np.random.Generator,
) -> dict[str, dict[str, Any]]:
    users = int(user.max()) + 1
    drawn: dict[str, list[tuple[FloatArray, FloatArray]]] = {name: [] for name in figures}
    for weights in user_weights(users, len(user), resamples, generator):
        for name, (own, floor) in figures.items():
            drawn[name].append((own(weights), floor(weights)))
    found = {}
    everybody = np.ones((1, users))
    for name, (own, floor) in figures.items():
        draws, floor_draws = (np.concatenate(parts) for parts in zip(*drawn[name], strict=True))
        value, beside = _value(own(everybody)), _value(floor(everybody)) if has_floor else None
        defined = value is not None and beside is not None
        found[name] = {
            "value": value,
            "ci": interval(draws) if value is not None else None,
            "floor": beside,
            "floor_ci": interval(floor_draws) if beside is not None else None,
            "difference": {
                "difference": value - beside if value is not None and beside is not None else None,
                "ci": interval(draws - floor_draws) if defined else None,
                "p": p_value(draws - floor_draws) if defined else None,
            },
        }
    return found


def _value(values: FloatArray) -> float | None:
    return None if np.isnan(values[0]) else float(values[0])


def _means(parts: Mapping[str, Parts | None], mask: BoolArray) -> dict[str, Any]:
    """Means over the rows of `mask`; of BLEU that of the single texts."""
    found: dict[str, Any] = {"rows": int(mask.sum())}
    for name in OVERLAP:
        part = parts[name]
        found[name] = float(part.top[mask].mean()) if part is not None and mask.any() else None
    return found


def _distinct(explained: Explained) -> dict[str, Any]:
    texts = {"traces": explained.traces, "references": explained.references}
    cut = {name: [rouge_tokens(text) for text in of] for name, of in texts.items()}
    return {f"distinct_{n}": {name: distinct(of, n) for name, of in cut.items()} for n in (1, 2)}


def _verdict_counts(argued: Sequence[str | None], says_yes: BoolArray) -> dict[str, int]:
    silent = sum(verdict is None for verdict in argued)
    consistent = sum(
        verdict is not None and (verdict == "yes") == bool(yes) for verdict, yes in zip(argued, says_yes, strict=True)
    )
    return {"consistent": consistent, "contradicting": len(argued) - silent - consistent, "silent": silent}


def _title_counts(named: Sequence[Named], known: Sequence[frozenset[int]]) -> dict[str, int]:
    return {
        "named": sum(len(found.mentions) for found in named),
        "ungrounded": sum(len(found.ungrounded(own)) for found, own in zip(named, known, strict=True)),
        "unknown": sum(len(found.unknown) for found in named),
        "rows_without": sum(not found.mentions for found in named),
    }


def _columns(
    parts: Mapping[str, Parts | None],
    argued: Sequence[str | None],
    named: Sequence[Named],
    known: Sequence[frozenset[int]],
) -> dict[str, list[Any]]:
    columns: dict[str, list[Any]] = {}
    for name, found in parts.items():
        columns[name] = found.column() if found is not None else [None] * len(argued)
        columns[f"{name}_floor"] = found.column(floor=True) if found is not None else [None] * len(argued)
    columns["argued"] = list(argued)
    columns["named"] = [[mention.text for mention in found.mentions] for found in named]
    columns["ungrounded"] = [list(found.ungrounded(own)) for found, own in zip(named, known, strict=True)]
    columns["unknown"] = [list(found.unknown) for found in named]
    return columns
