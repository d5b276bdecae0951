"""The strongest rung without a language model: gradient boosting on item effects, known labels and content.

Features of a row: the target's effect, count, year and genres, and the effect that its content lets expect; and what the residuals
of the user's earlier items say, residual = label - p(item alone): plain, by recency, and weighted by how alike item and
target are in genres, in release year, and in who rates them (`item_likeness`).

Train rows must look as test rows will. (1) Item effects of a row come from a fit without the row's user. (2) Under liked
histories the user's train labels are a second history, and each copy of a train row knows only the labels before a
random earlier time, sometimes none: many test users have no train rows at all.

Rows are worked on in parts of about half a million history entries, and the booster sees at most `fit_rows` rows: memory grows
with the rows by their features alone.

The booster is deterministic; where it must be kept, its trees become plain arrays (`trees`), never a pickle.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt

from thinkrec_core.config.ladder import BiasConfig, StackerConfig
from thinkrec_core.encoders.bias import fit_bias
from thinkrec_core.encoders.content import ItemContent
from thinkrec_core.encoders.examples import Examples, IntArray, Sizes
from thinkrec_core.encoders.folds import deal
from thinkrec_core.encoders.item_likeness import expected_effect, rated_together, towards_expected
from thinkrec_core.encoders.known_labels import KnownLabels, TimedExamples, draw_known
from thinkrec_core.evaluation.calibration import probability
from thinkrec_core.evaluation.checks import FloatArray

if TYPE_CHECKING:
    from sklearn.ensemble import HistGradientBoostingClassifier

__all__ = ["StackerFeatures", "StackerTables", "TimedExamples", "boosted_logits", "fit_booster"]

FACTS = 6
"""Columns of facts of the target; blocks of what earlier items say follow."""
BLOCK = 16
OF_TARGET_IN_BLOCK = (2, 3, *range(8, BLOCK))
"""Columns of a block that depend on the target: similarities, and residuals weighted by them."""
ENTRIES = 2**19
"""History entries worked on at a time."""


@dataclass(frozen=True)
class StackerTables:
    """What turns rows into features once the item effects are fitted."""

    content: ItemContent
    labelled: bool
    """Histories carry dislikes; else the user's train labels are read as a second history."""
    fold: IntArray
    """(U+1,) the fold of a user; the number of folds where the user has no train rows."""
    effect: FloatArray
    """(folds + 1, I+1) item effects fitted without the users of a fold; the last row holds nobody out."""
    count: IntArray
    """(folds + 1, I+1) train rows behind them."""
    expected: FloatArray
    """(folds + 1, I+1) effects that content lets expect (`expected_effect`)."""
    likeness: npt.NDArray[np.float32]
    """(folds + 1, I+1, D) vectors of items by who rates them (`rated_together`)."""
    known: KnownLabels

    @property
    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Everything but `labelled`, for a file."""
        return {
            "fold": self.fold,
            "effect": self.effect,
            "count": self.count,
            "expected": self.expected,
            "likeness": self.likeness,
            "year": self.content.year,
            "genres": self.content.genres,
            **{f"known.{name}": values for name, values in vars(self.known).items()},
        }

    @classmethod
    def restored(cls, arrays: Mapping[str, npt.NDArray[Any]], labelled: bool) -> Self:
        """The inverse of `arrays`."""
        known = KnownLabels(*(arrays[f"known.{name}"] for name in KnownLabels.__dataclass_fields__))
        content = ItemContent(arrays["year"], arrays["genres"])
        fold, effect, count = (arrays[name] for name in ("fold", "effect", "count"))
        return cls(content, labelled, fold, effect, count, arrays["expected"], arrays["likeness"], known)

    def later(self, rows: Examples) -> FloatArray:
        """(R, F) features of rows after the train split, which know all train labels of their user."""
        known = None if self.labelled else self.known.all(rows.user_idx)
        return self.features(rows, known, held_out=False)

    def features(self, rows: Examples, known: IntArray | None, held_out: bool) -> FloatArray:
        """(R, F) features of `rows`.

        Args:
            known: (R,) places up to which the user's train labels are known; None reads none of them.
            held_out: take the effects of the target from the fit without the row's user, as train rows must.
        """
        entries = np.diff(rows.history_offsets) + 1
        if known is not None:
            entries = entries + known - self.known.start[rows.user_idx]
        total = np.concatenate([[0], np.cumsum(entries)])
        made = np.empty((len(rows), FACTS + BLOCK * (1 if known is None else 2)))
        first = 0
        while first < len(rows):
            last = max(first + 1, int(np.searchsorted(total, total[first] + ENTRIES, side="right")) - 1)
            part = slice(first, last)
            made[part] = self._part(rows.part(first, last), None if known is None else known[part], held_out)
            first = last
        return made

    def _part(self, rows: Examples, known: IntArray | None, held_out: bool) -> FloatArray:
        content, target, users = self.content, rows.item_idx, rows.user_idx
        own = self.fold[users]
        table = own if held_out else np.full(len(rows), len(self.effect) - 1)
        effect, count, expected = (each[table, target] for each in (self.effect, self.count, self.expected))
        facts = [effect, count, content.year[target], (content.genres[target] > 0).sum(axis=1)]
        facts += [expected, towards_expected(effect, expected, count)]
        blocks = [np.stack(facts, axis=1).astype(np.float64)]
        blocks.append(self._history(rows.history_offsets, rows.history_items, rows.history_labels, target, own))
        if known is not None:
            blocks.append(self._history(*self.known.entries(users, known), target, own))
        return np.concatenate(blocks, axis=1)

    def _history(
        self, offsets: IntArray, items: IntArray, labels: IntArray, target: IntArray, fold: IntArray
    ) -> FloatArray:
        """(R, BLOCK) what earlier items say about the target, means shrunken towards 0."""
        content, rows, length = self.content, len(target), np.diff(offsets)
        owner = np.repeat(np.arange(rows), length)
        effect = self.effect[fold[owner], items]
        residual = labels - probability(effect)
        recent = 0.9 ** np.minimum(offsets[1:][owner] - 1 - np.arange(len(owner)), 300)
        alike = np.einsum("eg,eg->e", content.genres[items], content.genres[target][owner])
        same_time = np.exp(-np.abs(content.year[items] - content.year[target][owner]) / 8.0)
        together = np.einsum(
            "ed,ed->e", self.likeness[fold[owner], items], self.likeness[fold, target][owner], dtype=np.float64
        )
        near = np.maximum(together, 0.0)
        nearest, some = np.zeros(rows), length > 0
        nearest[some] = np.maximum.reduceat(near, offsets[:-1][some]) if some.any() else 0.0

        def total(values: FloatArray) -> FloatArray:
            return np.bincount(owner, values, rows).astype(np.float64)

        def shrunken(weight: FloatArray, prior: float) -> FloatArray:
            return total(residual * weight) / (total(weight) + prior)

        ones, divisor = np.ones(len(owner)), np.maximum(length, 1)
        columns = [length, total(labels.astype(np.float64)), total(alike) / divisor, total(same_time) / divisor]
        columns += [total(effect) / divisor, shrunken(ones, 3.0), shrunken(recent, 1.0), shrunken(recent**3, 0.5)]
        columns += [shrunken(alike, 1.0), shrunken(alike**4, 0.5), shrunken(same_time, 1.0)]
        columns += [total(together) / divisor, nearest, total(residual * near)]
        columns += [shrunken(near**2, 0.5), shrunken(near**4, 0.3)]
        return np.stack(columns, axis=1)


class StackerFeatures:
    """Features of train rows and of later ones, under item effects that are fitted here.

    Args:
        labelled: histories carry dislikes; else the user's train labels are read as a second history.
    """

    def __init__(
        self,
        config: StackerConfig,
        bias: BiasConfig,
        train: TimedExamples,
        content: ItemContent,
        sizes: Sizes,
        labelled: bool,
        generator: np.random.Generator,
    ) -> None:
        self._config, self._train, self._draw = config, train, generator
        rows = train.rows
        users = np.unique(rows.user_idx)
        fold = np.full(sizes.users + 1, config.folds)
        fold[users] = deal(len(users), config.folds, generator)
        effects, counts, expected, likeness = [], [], [], []
        start = int(generator.integers(2**31))
        for held_out in range(config.folds + 1):  # the last one holds nobody out
            kept = fold[rows.user_idx] != held_out
            model = fit_bias(bias, rows.user_idx[kept], rows.item_idx[kept], rows.label[kept], content, sizes)
            effects.append(model.item)
            counts.append(np.bincount(rows.item_idx[kept], minlength=sizes.items + 1))
            expected.append(expected_effect(content, model.item, counts[-1]))
            likeness.append(
                rated_together(rows.user_idx[kept], rows.item_idx[kept], sizes, config.item_dimensions, start)
            )
        known = KnownLabels.of(train, sizes.users)
        fitted = (np.stack(effects), np.stack(counts), np.stack(expected), np.stack(likeness))
        self.tables = StackerTables(content, labelled, fold, *fitted, known)

    def train(self) -> tuple[FloatArray, IntArray]:
        """(N, F) features and (N,) labels of the train rows.

        N = copies * R with 1 copy under labelled histories, else `replicas` or as many as `fit_rows` allows; where R itself
        is above `fit_rows`, so many rows drawn at random.
        """
        rows, limit = self._train.rows, self._config.fit_rows
        copies = 1 if self.tables.labelled else max(1, min(self._config.replicas, limit // len(rows)))
        chosen = np.ones(len(rows), bool)
        if len(rows) > limit:
            chosen = np.isin(np.arange(len(rows)), self._draw.permutation(len(rows))[:limit])
        kept, parts = rows.rows(chosen) if len(rows) > limit else rows, []
        for _ in range(copies):
            known = None
            if not self.tables.labelled:
                known = draw_known(self._train, self.tables.known, self._config.unknown_users, self._draw)[chosen]
            parts.append(self.tables.features(kept, known, held_out=True))
        return np.concatenate(parts), np.tile(kept.label, copies)

    def later(self, rows: Examples) -> FloatArray:
        """(R, F) features of rows after the train split, which know all train labels of their user."""
        return self.tables.later(rows)


def fit_booster(
    config: StackerConfig, features: FloatArray, labels: IntArray, seed: int
) -> HistGradientBoostingClassifier:
    """The booster of `features` (N, F) and `labels` (N,); equal inputs give equal trees.

    Args:
        seed: draws the features that each split may use.
    """
    from sklearn.ensemble import HistGradientBoostingClassifier

    booster = HistGradientBoostingClassifier(
        max_iter=config.iterations,
        learning_rate=config.learning_rate,
        max_leaf_nodes=config.leaves,
        min_samples_leaf=100,
        l2_regularization=10.0,
        max_features=0.15,
        early_stopping=False,
        random_state=seed % 2**32,
    )
    return booster.fit(features, labels)


def boosted_logits(
    config: StackerConfig, features: FloatArray, labels: IntArray, later: list[FloatArray], seed: int
) -> list[FloatArray]:
    """(R,) logits of each array (R, F) in `later` by the booster of `features` and `labels`."""
    booster = fit_booster(config, features, labels, seed)
    return [np.asarray(booster.decision_function(part), np.float64) for part in later]
