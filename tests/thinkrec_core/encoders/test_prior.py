"""The prior of the LLM: equal to the ladder's rung on later rows; on train rows blind to what a test row would not know."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier

from tests.thinkrec_core.encoders.test_stacker import CONTENT, ITEMS, USERS, world
from thinkrec_core.config.ladder import BiasConfig, LadderConfig, StackerConfig
from thinkrec_core.encoders.bias import fit_bias
from thinkrec_core.encoders.examples import Sizes
from thinkrec_core.encoders.known_labels import KnownLabels, TimedExamples
from thinkrec_core.encoders.prior import FittedKind, FittedPrior, Prior, fit_prior
from thinkrec_core.encoders.stacker import StackerFeatures, boosted_logits
from thinkrec_core.encoders.trees import Trees
from thinkrec_core.evaluation.auc import auc
from thinkrec_core.seeds import generator

CONFIG = LadderConfig(stacker=StackerConfig(folds=3, replicas=2, iterations=12))
KINDS: list[FittedKind] = ["bias", "stacker"]
SIZES = Sizes(USERS, ITEMS)


def fit(kind: FittedKind, train: TimedExamples, labelled: bool = False) -> FittedPrior:
    return fit_prior(kind, CONFIG, train, CONTENT, SIZES, labelled, 3, 7)


def test_trees_are_those_of_the_booster() -> None:
    draw = np.random.default_rng(0)
    x = draw.normal(size=(3000, 5)).round(1)  # many equal values, also at the thresholds
    y = (x[:, 0] * x[:, 1] + x[:, 2] > 0).astype(int)
    booster = HistGradientBoostingClassifier(max_iter=30, max_leaf_nodes=8, random_state=1).fit(x, y)
    trees = Trees.of(booster)
    np.testing.assert_allclose(trees.logits(x), booster.decision_function(x), rtol=0, atol=1e-12)
    assert np.ptp(trees.logits(x)) > 2
    assert trees.logits(x[:0]).shape == (0,)


@pytest.mark.parametrize("labelled", [False, True])
def test_later_rows_have_the_logits_of_the_rungs(labelled: bool) -> None:
    train, later = world()
    rows = train.rows
    bias = fit_bias(CONFIG.bias, rows.user_idx, rows.item_idx, rows.label, CONTENT, SIZES)
    plain = bias.score(later.user_idx, later.item_idx)
    np.testing.assert_array_equal(fit("bias", train, labelled).prior.logits(later), plain)
    draw = generator(7, "stacker")
    made = StackerFeatures(CONFIG.stacker, CONFIG.bias, train, CONTENT, SIZES, labelled, draw)
    boosted = boosted_logits(CONFIG.stacker, *made.train(), [made.later(later)], 7)[0]
    blend = CONFIG.stacker.blend
    found = fit("stacker", train, labelled).prior.logits(later)
    np.testing.assert_allclose(found, (1 - blend) * boosted + blend * plain, rtol=0, atol=1e-9)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("labelled", [False, True])
def test_the_logit_of_a_train_row_knows_no_label_of_its_user_from_the_row_on(kind: FittedKind, labelled: bool) -> None:
    train, _ = world()
    before = fit(kind, train, labelled).train
    row = 5 * USERS  # a row of the sixth moment
    flip = (train.rows.user_idx == train.rows.user_idx[row]) & (train.timestamp >= train.timestamp[row])
    labels = np.where(flip, 1 - train.rows.label, train.rows.label)
    after = fit(kind, replace(train, rows=replace(train.rows, label=labels)), labelled).train
    assert flip.sum() > 1
    assert after[row] == before[row]
    others = train.rows.user_idx != train.rows.user_idx[row]
    assert (after[others] != before[others]).any()


def test_train_logits_are_as_good_as_those_of_later_rows_and_not_better() -> None:
    train, later = world()
    fitted = fit("stacker", train)
    own, new = auc(fitted.train, train.rows.label), auc(fitted.prior.logits(later), later.label)
    in_sample = auc(fitted.prior.logits(train.rows), train.rows.label)
    assert own is not None
    assert new is not None
    assert in_sample is not None
    assert 0.6 < own < new < in_sample  # less is known of a train row's user than of a later one


@pytest.mark.parametrize("kind", KINDS)
def test_a_restored_prior_gives_the_same_logits(kind: FittedKind) -> None:
    train, later = world()
    prior = fit(kind, train).prior
    arrays = {name: values.copy() for name, values in prior.arrays.items()}
    np.testing.assert_array_equal(Prior.restored(arrays).logits(later), prior.logits(later))


@pytest.mark.parametrize("kind", KINDS)
def test_users_and_items_that_came_later_count_as_unknown(kind: FittedKind) -> None:
    train, later = world()
    prior = fit(kind, train).prior
    new = replace(later, user_idx=later.user_idx + USERS, item_idx=np.full(len(later), ITEMS + 5))
    nobody = replace(later, user_idx=np.zeros(len(later), np.int64), item_idx=np.zeros(len(later), np.int64))
    np.testing.assert_array_equal(prior.logits(new), prior.logits(nobody))


def test_effects_of_unseen_users_are_the_optimum_of_their_known_labels() -> None:
    train, _ = world()
    rows = train.rows
    model = fit_bias(BiasConfig(), rows.user_idx, rows.item_idx, rows.label, CONTENT, SIZES)
    model = replace(model, years=np.random.default_rng(0).normal(size=ITEMS + 1))
    known = KnownLabels.of(train, USERS)
    users, targets = np.array([1, 2, 3]), np.array([4, 5, 6])
    until = known.all(users)
    until[2] = known.start[3]  # of the third nothing is known
    offsets, items, labels = known.entries(users, until)
    config = BiasConfig()
    found = model.of_unseen_users(targets, offsets, items, labels, config)
    assert found[2] == model.item[6]
    for row in (0, 1):
        own = slice(offsets[row], offsets[row + 1])
        base, years, wanted = model.item[items[own]], model.years[items[own]], labels[own]
        # The best point of a fine grid, found without a gradient.
        effect, slope = (each.ravel() for each in np.meshgrid(np.linspace(-3, 3, 301), np.linspace(-1, 1, 201)))
        logit = base + effect[:, None] + slope[:, None] * years
        loss = np.logaddexp(0, np.where(wanted == 1, -logit, logit)).sum(axis=1)
        loss += (config.ridge_user * effect**2 + config.ridge_user_year * slope**2) / 2
        best = loss.argmin()
        expected = model.item[targets[row]] + effect[best] + slope[best] * model.years[targets[row]]
        assert found[row] == pytest.approx(expected, abs=0.03)
