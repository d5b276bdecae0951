"""Explained rows, and each figure as two sums over rows: those of the rows themselves and those beside strangers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from thinkrec_core.errors import DataError
from thinkrec_core.evaluation.bootstrap import Ratio
from thinkrec_core.evaluation.checks import FloatArray, IntArray, checked_labels, checked_scores, checked_users
from thinkrec_core.evaluation.text.bleu import bleu, bleu_counts
from thinkrec_core.evaluation.text.meteor import meteor
from thinkrec_core.evaluation.text.rouge import rouge_l
from thinkrec_core.evaluation.text.titles import Named
from thinkrec_core.evaluation.text.tokens import bleu_tokens, meteor_tokens, rouge_tokens

if TYPE_CHECKING:
    from thinkrec_core.evaluation.text.embedding import TextEncoder

Figure = Callable[[FloatArray], FloatArray]
"""(B, U) weights of users to (B,) values."""
BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Explained:
    """N explained rows."""

    users: IntArray
    """(N,)."""
    labels: IntArray
    """(N,) what the user did: 0 or 1."""
    scores: FloatArray
    """(N,) the student's; above 0 it says Yes."""
    traces: Sequence[str]
    """The student's reasons without their verdict."""
    references: Sequence[str]
    """The teacher's reasons."""
    known: Sequence[frozenset[int]]
    """item_idx that the reasons may name: those of the history that the student was shown, and the target."""

    def __post_init__(self) -> None:
        labels = checked_labels(self.labels)
        checked_users(self.users, len(labels))
        checked_scores(self.scores, len(labels))
        lengths = {name: len(getattr(self, name)) for name in ("traces", "references", "known")}
        if set(lengths.values()) != {len(labels)}:
            raise DataError(f"{lengths} for {len(labels)} rows", "one of each per row")
        empty = [row for row, text in enumerate(self.references) if not text.strip()]
        if empty:
            raise DataError(
                f"the reference of row {empty[0]} is empty ({len(empty)} such rows)", "reasons to compare with"
            )

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def says_yes(self) -> BoolArray:
        """(N,) the student's verdicts."""
        return self.scores > 0


@dataclass(frozen=True)
class Parts:
    """A figure as sum of tops over sum of bottoms, for the rows themselves and for their strangers."""

    top: FloatArray
    bottom: FloatArray
    floor_top: FloatArray
    floor_bottom: FloatArray

    def figure(self, user: IntArray, floor: bool) -> Figure:
        """The figure as a function of user weights; `user` (N,) counts from 0."""
        top, bottom = self._pair(floor)
        sums = [np.bincount(user, weights=part).astype(np.float64) for part in (top, bottom)]
        return Ratio(*sums)

    def column(self, floor: bool = False) -> list[float | None]:
        """(N,) the figure of each row alone; None where its bottom is 0."""
        top, bottom = self._pair(floor)
        return [float(t / b) if b else None for t, b in zip(top, bottom, strict=True)]

    def _pair(self, floor: bool) -> tuple[FloatArray, FloatArray]:
        return (self.floor_top, self.floor_bottom) if floor else (self.top, self.bottom)


def overlaps(explained: Explained, others: IntArray, encoder: TextEncoder | None) -> dict[str, Parts]:
    """The figures that compare a trace with a reference; sentence BLEU, whose corpus figure is another."""
    cuts: dict[str, tuple[Callable[[str], Any], Callable[[Any, Any], float]]] = {
        "meteor": (meteor_tokens, meteor),
        "bleu": (bleu_tokens, lambda one, other: float(bleu(bleu_counts(one, other), effective_order=True))),
        "rouge_l": (rouge_tokens, rouge_l),
    }
    found = {}
    for name, (cut, compare) in cuts.items():
        found[name] = _compared(
            [cut(t) for t in explained.traces], [cut(t) for t in explained.references], compare, others
        )
    if encoder is not None:
        from thinkrec_core.evaluation.text.embedding import bertscore, cosine  # torch

        traces, references = encoder.embed(explained.traces), encoder.embed(explained.references)
        found["embedding_cosine"] = _compared(traces, references, cosine, others)
        found["bertscore_f1"] = _compared(traces, references, bertscore, others)
    return found


def _compared(
    traces: list[Any], references: list[Any], compare: Callable[[Any, Any], float], others: IntArray
) -> Parts:
    ones = np.ones(len(traces))
    own = np.array([compare(trace, reference) for trace, reference in zip(traces, references, strict=True)])
    strange = [[compare(traces[row], references[other]) for row, other in enumerate(line)] for line in others]
    floor = np.mean(strange, axis=0) if len(others) else np.zeros(len(traces))
    return Parts(own, ones, floor, ones if len(others) else np.zeros(len(traces)))


def corpus_bleu(explained: Explained, others: IntArray, user: IntArray) -> tuple[Figure, Figure]:
    """BLEU of the corpus and of the corpus beside strangers, as functions of user weights."""
    traces, references = [bleu_tokens(t) for t in explained.traces], [bleu_tokens(t) for t in explained.references]

    def of(lines: IntArray) -> Figure:
        counts_NC = np.sum(
            [[bleu_counts(traces[row], references[other]) for row, other in enumerate(line)] for line in lines], axis=0
        )
        counts_UC = np.zeros((int(user.max()) + 1, counts_NC.shape[-1]))
        np.add.at(counts_UC, user, counts_NC)
        return lambda weights_BU: bleu(weights_BU @ counts_UC)

    own = np.arange(len(explained))[None]
    return of(own), of(others if len(others) else own)


def consistency(argued: Sequence[str | None], says_yes: BoolArray, others: IntArray) -> Parts:
    """Traces that argue for the verdict of the score, over traces that argue for any."""
    speaks = np.array([verdict is not None for verdict in argued], dtype=np.float64)
    yes = np.array([verdict == "yes" for verdict in argued])
    share = 1.0 / max(len(others), 1)
    return Parts(
        speaks * (yes == says_yes),
        speaks,
        share * (speaks[others] * (yes[others] == says_yes)).sum(axis=0),
        share * speaks[others].sum(axis=0),
    )


def groundedness(named: Sequence[Named], known: Sequence[frozenset[int]], others: IntArray) -> Parts:
    """Named titles that the row knows, over named titles."""
    count = np.array([len(found.mentions) for found in named], dtype=np.float64)

    def grounded(rows: Sequence[int]) -> FloatArray:
        """Titles named by trace `rows[i]` that row i knows."""
        return np.array([count[of] - len(named[of].ungrounded(own)) for of, own in zip(rows, known, strict=True)])

    share = 1.0 / max(len(others), 1)
    strange = np.array([grounded(line) for line in others]).reshape(len(others), len(count))
    return Parts(grounded(range(len(count))), count, share * strange.sum(axis=0), share * count[others].sum(axis=0))
