"""The strongest rung without a language model: gradient boosting on item effects, known labels and content.

Features of a row: the target's effect, count, year and genres; and what the residuals of the user's earlier items say,
residual = label - p(item alone), plain, by recency, and weighted by genre overlap and release year of item and target.

Train rows must look as test rows will. (1) Item effects of a row come from a fit without the row's user. (2) Under liked
histories the user's train labels are a second history, and each copy of a train row knows only the labels before a
random earlier time, sometimes none: many test users have no train rows at all.

The booster is deterministic and is refitted from the saved features; no pickled model is kept.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from thinkrec_core.config.ladder import BiasConfig, StackerConfig
from thinkrec_core.encoders.bias import fit_bias
from thinkrec_core.encoders.content import ItemContent
from thinkrec_core.encoders.examples import Examples, IntArray, Sizes
from thinkrec_core.evaluation.calibration import probability
from thinkrec_core.evaluation.checks import FloatArray

BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class TimedExamples:
    """Rows and when they happened."""

    rows: Examples
    timestamp: IntArray
    """(R,) seconds."""


class StackerFeatures:
    """Turns rows into features under one set of item effects.

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
        self._config, self._train, self._content, self._labelled = config, train, content, labelled
        self._draw = generator
        rows = train.rows
        users = np.unique(rows.user_idx)
        self._fold = np.full(sizes.users + 1, config.folds)
        self._fold[users] = generator.permutation(np.arange(len(users)) % config.folds)
        effects, counts = [], []
        for fold in range(config.folds + 1):  # the last one holds nobody out
            kept = self._fold[rows.user_idx] != fold
            model = fit_bias(bias, rows.user_idx[kept], rows.item_idx[kept], rows.label[kept], content, sizes)
            effects.append(model.item)
            counts.append(np.bincount(rows.item_idx[kept], minlength=sizes.items + 1))
        self._effect, self._count = np.stack(effects), np.stack(counts)
        order = np.lexsort((train.timestamp, rows.user_idx))
        self._known_items, self._known_labels = rows.item_idx[order], rows.label[order]
        self._start = np.searchsorted(rows.user_idx[order], np.arange(sizes.users + 2))
        self._known_time = train.timestamp[order]

    def train(self) -> tuple[FloatArray, IntArray]:
        """(N, F) features and (N,) labels of the train rows, N = replicas * R (R under labelled histories)."""
        if self._labelled:
            return self._features(self._train.rows, None, held_out=True), self._train.rows.label
        users, time = self._train.rows.user_idx, self._train.timestamp
        first = self._known_time[self._start[users]]
        parts = []
        for _ in range(self._config.replicas):
            share, unknown = self._draw.random(len(users)), self._draw.random(len(users)) < self._config.unknown_users
            cut_off = np.where(unknown, first, first + ((time - first) * share).astype(np.int64))
            parts.append(self._features(self._train.rows, self._known_until(users, cut_off), held_out=True))
        return np.concatenate(parts), np.tile(self._train.rows.label, self._config.replicas)

    def later(self, rows: Examples) -> FloatArray:
        """(R, F) features of rows after the train split, which know all train labels of their user."""
        known = None if self._labelled else self._start[rows.user_idx + 1]
        return self._features(rows, known, held_out=False)

    def _known_until(self, users: IntArray, cut_off: IntArray) -> IntArray:
        """(R,) the place after the last train row of each user that is strictly earlier than its cut-off."""
        scale = int(self._known_time.max()) + 2
        owner = np.repeat(np.arange(len(self._start) - 1), np.diff(self._start))
        return np.searchsorted(owner * scale + self._known_time, users * scale + cut_off)

    def _features(self, rows: Examples, known: IntArray | None, held_out: bool) -> FloatArray:
        content, target, users = self._content, rows.item_idx, rows.user_idx
        own = self._fold[users]
        table = own if held_out else np.full(len(rows), self._config.folds)
        facts = [self._effect[table, target], self._count[table, target], content.year[target]]
        facts.append((content.genres[target] > 0).sum(axis=1))
        blocks = [np.stack(facts, axis=1).astype(np.float64)]
        blocks.append(self._history(rows.history_offsets, rows.history_items, rows.history_labels, target, own))
        if known is not None:
            start = self._start[users]
            offsets = np.concatenate([[0], np.cumsum(known - start)])
            place = np.repeat(start - offsets[:-1], known - start) + np.arange(offsets[-1])
            blocks.append(self._history(offsets, self._known_items[place], self._known_labels[place], target, own))
        return np.concatenate(blocks, axis=1)

    def _history(
        self, offsets: IntArray, items: IntArray, labels: IntArray, target: IntArray, fold: IntArray
    ) -> FloatArray:
        """(R, 11) what earlier items say about the target, means shrunken towards 0."""
        content, rows, length = self._content, len(target), np.diff(offsets)
        owner = np.repeat(np.arange(rows), length)
        effect = self._effect[fold[owner], items]
        residual = labels - probability(effect)
        recent = 0.9 ** np.minimum(offsets[1:][owner] - 1 - np.arange(len(owner)), 300)
        alike = np.einsum("eg,eg->e", content.genres[items], content.genres[target][owner])
        same_time = np.exp(-np.abs(content.year[items] - content.year[target][owner]) / 8.0)

        def total(values: FloatArray) -> FloatArray:
            return np.bincount(owner, values, rows).astype(np.float64)

        def shrunken(weight: FloatArray, prior: float) -> FloatArray:
            return total(residual * weight) / (total(weight) + prior)

        ones, divisor = np.ones(len(owner)), np.maximum(length, 1)
        columns = [length, total(labels.astype(np.float64)), total(alike) / divisor, total(same_time) / divisor]
        columns += [total(effect) / divisor, shrunken(ones, 3.0), shrunken(recent, 1.0), shrunken(recent**3, 0.5)]
        columns += [shrunken(alike, 1.0), shrunken(alike**4, 0.5), shrunken(same_time, 1.0)]
        return np.stack(columns, axis=1)


def boosted_logits(
    config: StackerConfig, features: FloatArray, labels: IntArray, later: list[FloatArray], seed: int
) -> list[FloatArray]:
    """(R,) logits of each array in `later` by a booster fitted on `features`; equal inputs give equal logits.

    Args:
        features: (N, F).
        labels: (N,) 0 or 1.
        later: arrays (R, F).
        seed: draws the features that each split may use.
    """
    from sklearn.ensemble import HistGradientBoostingClassifier

    booster = HistGradientBoostingClassifier(
        max_iter=config.iterations,
        learning_rate=config.learning_rate,
        max_leaf_nodes=config.leaves,
        min_samples_leaf=100,
        l2_regularization=10.0,
        max_features=0.3,
        early_stopping=False,
        random_state=seed % 2**32,
    )
    booster.fit(features, labels)
    return [np.asarray(booster.decision_function(part), np.float64) for part in later]
