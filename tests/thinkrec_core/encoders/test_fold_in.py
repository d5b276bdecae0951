"""Folding users in: the optimum of its formula, vectors like those of a joint fit, honest out-of-fold logits."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize

from thinkrec_core.encoders.fold_in import LEAST_VARIANCE, ItemSide, fold_in, out_of_fold

D, ITEMS, USERS = 3, 40, 30
DRAW = np.random.default_rng(5)
SIDE = ItemSide(DRAW.normal(size=(ITEMS + 1, D)), DRAW.normal(size=ITEMS + 1, scale=0.3), 0.2)
KNOWN = DRAW.normal(size=(200, D + 1)) * np.array([1.0, 0.5, 1.5, 0.7]) + np.array([0.3, 0, 0, 0.1])
TRUE = DRAW.normal(size=(USERS, D + 1)) * np.array([1.0, 0.5, 1.5, 0.7])
OWNER = np.repeat(np.arange(USERS), 25)
ROWS = DRAW.integers(1, ITEMS + 1, len(OWNER))
CHANCE = 1 / (1 + np.exp(-SIDE.logits(TRUE[OWNER, :D], TRUE[OWNER, D], ROWS)))
LABELS = (DRAW.random(len(OWNER)) < CHANCE).astype(np.int64)


def test_it_is_the_minimum_of_the_penalised_loss() -> None:
    found = fold_in(KNOWN, SIDE, OWNER, ROWS, LABELS)[4]
    own = OWNER == 4
    mean, variance = KNOWN.mean(axis=0), np.maximum(KNOWN.var(axis=0), LEAST_VARIANCE)

    def loss(theta: np.ndarray) -> float:
        logit = SIDE.logits(np.tile(theta[:D], (own.sum(), 1)), np.full(own.sum(), theta[D]), ROWS[own])
        sign = 2 * LABELS[own] - 1
        return float(np.logaddexp(0, -sign * logit).sum() + ((theta - mean) ** 2 / variance).sum() / 2)

    reference = minimize(loss, mean, method="BFGS", options={"gtol": 1e-8})
    assert found == pytest.approx(reference.x, abs=1e-4)


def test_vectors_come_near_the_true_ones_and_no_rows_are_the_average() -> None:
    found = fold_in(KNOWN, SIDE, OWNER, ROWS, LABELS)
    errors = np.array([np.abs(found[user] - TRUE[user]).mean() for user in range(USERS)])
    blind = np.abs(KNOWN.mean(axis=0) - TRUE).mean(axis=1)
    assert errors.mean() < 0.7 * blind.mean()
    assert fold_in(KNOWN, SIDE, OWNER[:0], ROWS[:0], LABELS[:0]) == {}


def test_out_of_fold_logits_do_not_know_their_own_label() -> None:
    honest = out_of_fold(KNOWN, SIDE, OWNER, ROWS, LABELS, 5)
    flipped = LABELS.copy()
    flipped[7] = 1 - flipped[7]
    assert out_of_fold(KNOWN, SIDE, OWNER, ROWS, flipped, 5)[7] == honest[7]
    alone = out_of_fold(KNOWN, SIDE, np.array([0]), np.array([3]), np.array([1]), 5)
    mean = KNOWN.mean(axis=0)
    assert alone == pytest.approx(SIDE.logits(mean[None, :D], mean[None, D], np.array([3])))
