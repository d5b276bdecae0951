"""A prior from methods without a language model: logits that the LLM's logit is added to, in the loss as in the evaluation.

Train rows must look to the LLM as test rows will. (1) Their logits are out of fold by users: the models, item effects among
the stacker's features included, have seen no label of the row's user. An in-sample prior is trusted too much, and folds of
rows would never show a cold user. (2) Of this user the labels before a random earlier time are known, sometimes none (label
cut-off), as the labels of the train split are known of a test user.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from thinkrec_core.config.ladder import LadderConfig
from thinkrec_core.encoders.bias import BiasModel, fit_bias
from thinkrec_core.encoders.content import ItemContent
from thinkrec_core.encoders.examples import Examples, IntArray, Sizes
from thinkrec_core.encoders.folds import deal_users
from thinkrec_core.encoders.known_labels import KnownLabels, TimedExamples, draw_known
from thinkrec_core.encoders.stacker import StackerFeatures, StackerTables, fit_booster
from thinkrec_core.encoders.trees import Trees
from thinkrec_core.errors import TrainingError
from thinkrec_core.evaluation.checks import FloatArray
from thinkrec_core.seeds import generator

FittedKind = Literal["bias", "stacker"]
"""Priors that are fitted for the LLM; the encoder's logits are there anyway."""


@dataclass(frozen=True)
class Prior:
    """A prior fitted on all train rows, for rows after them: equal to the ladder's rung of its name."""

    bias: BiasModel
    blend: float
    """Weight of the bias model's logit; the boosted one has the rest."""
    stacker: tuple[StackerTables, Trees] | None
    """None where the prior is the bias model alone."""

    def logits(self, rows: Examples) -> FloatArray:
        """(R,) logits; users and items that the fit did not know count as without train rows."""
        rows = replace(
            rows,
            user_idx=_within(rows.user_idx, self.bias.user),
            item_idx=_within(rows.item_idx, self.bias.item),
            history_items=_within(rows.history_items, self.bias.item),
        )
        plain = self.bias.score(rows.user_idx, rows.item_idx)
        if self.stacker is None:
            return plain
        tables, trees = self.stacker
        return (1 - self.blend) * trees.logits(tables.later(rows)) + self.blend * plain

    @property
    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Everything, for a file."""
        found = {f"bias.{name}": np.atleast_1d(values) for name, values in vars(self.bias).items()}
        found["blend"] = np.array([self.blend])
        if self.stacker is not None:
            tables, trees = self.stacker
            found["labelled"] = np.array([int(tables.labelled)])
            found |= {f"stacker.{name}": values for name, values in tables.arrays.items()}
            found |= {f"trees.{name}": values for name, values in vars(trees).items()}
        return {name: np.ascontiguousarray(values) for name, values in found.items()}

    @classmethod
    def restored(cls, arrays: Mapping[str, npt.NDArray[Any]]) -> Prior:
        """The inverse of `arrays`."""
        parts: dict[str, dict[str, npt.NDArray[Any]]] = {}
        for name, values in arrays.items():
            part, _, key = name.partition(".")
            parts.setdefault(part, {})[key] = values
        effects = parts["bias"]
        bias = BiasModel(**{**effects, "mu": float(effects["mu"][0])})  # type: ignore[arg-type]
        stacker = None
        if "trees" in parts:
            tables = StackerTables.restored(parts["stacker"], bool(arrays["labelled"][0]))
            stacker = tables, Trees.restored(parts["trees"])
        return cls(bias, float(arrays["blend"][0]), stacker)


@dataclass(frozen=True)
class FittedPrior:
    """A prior and what it says of the train rows themselves."""

    prior: Prior
    train: FloatArray
    """(R,) out of fold, under a label cut-off."""


def fit_prior(
    kind: FittedKind,
    config: LadderConfig,
    train: TimedExamples,
    content: ItemContent,
    sizes: Sizes,
    labelled: bool,
    folds: int,
    seed: int,
    progress: Callable[[int], None] | None = None,
) -> FittedPrior:
    """The prior `kind` of the train rows.

    Args:
        config: settings of the bias model and of the stacker.
        labelled: histories carry dislikes.
        folds: user folds of the train rows' logits.
        progress: called with the number of finished folds.

    Raises:
        TrainingError: the kept trees are not those of the booster.
    """
    rows, stacker = train.rows, config.stacker
    known = KnownLabels.of(train, sizes.users)
    bias = _fit_bias(config, train, content, sizes)
    made = None
    if kind == "stacker":
        # As the rung draws: with the same seed prior and rung have the same trees.
        made = _fit_stacker(config, train, content, sizes, labelled, generator(seed, "stacker"), seed)
    place = draw_known(train, known, stacker.unknown_users, generator(seed, "prior", "known"))
    fold = deal_users(rows.user_idx, folds, generator(seed, "prior", "folds"))
    logits = np.zeros(len(rows))
    for number in range(folds):
        held_out = fold == number
        if held_out.any() and not held_out.all():
            others = TimedExamples(rows.rows(~held_out), train.timestamp[~held_out])
            prior = Prior(_fit_bias(config, others, content, sizes), stacker.blend, None)
            if kind == "stacker":
                draw = generator(seed, "prior", "fold", number)
                prior = replace(prior, stacker=_fit_stacker(config, others, content, sizes, labelled, draw, seed))
            logits[held_out] = _unseen_logits(prior, config, rows.rows(held_out), known, place[held_out])
        if progress:
            progress(number + 1)
    return FittedPrior(Prior(bias, stacker.blend, made), logits)


def _unseen_logits(
    prior: Prior, config: LadderConfig, rows: Examples, known: KnownLabels, place: IntArray
) -> FloatArray:
    """(R,) logits of rows whose users `prior` has not seen, of whom the labels of `known` up to `place` (R,) are known."""
    plain = prior.bias.of_unseen_users(rows.item_idx, *known.entries(rows.user_idx, place), config.bias)
    if prior.stacker is None:
        return plain
    tables, trees = prior.stacker
    features = replace(tables, known=known).features(rows, None if tables.labelled else place, held_out=False)
    return (1 - prior.blend) * trees.logits(features) + prior.blend * plain


def _fit_bias(config: LadderConfig, train: TimedExamples, content: ItemContent, sizes: Sizes) -> BiasModel:
    rows = train.rows
    return fit_bias(config.bias, rows.user_idx, rows.item_idx, rows.label, content, sizes)


def _fit_stacker(
    config: LadderConfig,
    train: TimedExamples,
    content: ItemContent,
    sizes: Sizes,
    labelled: bool,
    draw: np.random.Generator,
    seed: int,
) -> tuple[StackerTables, Trees]:
    made = StackerFeatures(config.stacker, config.bias, train, content, sizes, labelled, draw)
    features, labels = made.train()
    booster = fit_booster(config.stacker, features, labels, seed)
    trees, probe = Trees.of(booster), features[:1000]
    if not np.allclose(trees.logits(probe), booster.decision_function(probe), rtol=0, atol=1e-9):
        raise TrainingError("the trees read from scikit-learn's booster give other logits", "equal ones")
    return made.tables, trees


def _within(index: IntArray, table: FloatArray) -> IntArray:
    return np.where(index < len(table), index, 0)
