"""Vectors of users that an encoder has never seen, in its own space: everything but the new users' vectors stays as it is.

Formula: with theta = (e_u, b_u), each new user's theta minimises

    sum over train rows of log(1 + exp(-y logit)) + 1/2 (theta - m)' diag(1/v) (theta - m),   logit = mu + b_i + b_u + <e_u, e_i>

where m and v are mean and variance of theta over the users that the encoder was trained on: an unknown user starts as the
average one. It is convex; Newton's method needs few steps.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

STEPS = 12
LEAST_VARIANCE = 1e-4
"""Coordinates on which the known users agree are hardly moved."""


@dataclass(frozen=True)
class ItemSide:
    """The frozen part: (I+1, d) item vectors, (I+1,) item biases, and mu."""

    vectors: FloatArray
    bias: FloatArray
    mu: float

    def logits(self, vectors: FloatArray, bias: FloatArray, items: IntArray) -> FloatArray:
        """(R,) logits of users with `vectors` (R, d) and `bias` (R,) on `items` (R,)."""
        return np.asarray(self.mu + bias + self.bias[items] + (vectors * self.vectors[items]).sum(axis=1))


def fold_in(
    known: FloatArray, items: ItemSide, users: IntArray, rows: IntArray, labels: IntArray
) -> dict[int, FloatArray]:
    """theta (d+1,) of each user in `users`, its last coordinate the bias.

    Args:
        known: (K, d+1) theta of the users that the encoder was trained on.
        items: the frozen item side.
        users: (R,) new user of each train row.
        rows: (R,) its item.
        labels: (R,) 0 or 1.
    """
    mean, precision = known.mean(axis=0), 1.0 / np.maximum(known.var(axis=0), LEAST_VARIANCE)
    features = np.column_stack([items.vectors[rows], np.ones(len(rows))])
    offset = items.mu + items.bias[rows]
    found = {}
    for user in np.unique(users):
        own = users == user
        found[int(user)] = _newton(features[own], offset[own], labels[own].astype(np.float64), mean, precision)
    return found


def out_of_fold(
    known: FloatArray, items: ItemSide, users: IntArray, rows: IntArray, labels: IntArray, folds: int
) -> FloatArray:
    """(R,) logits of the train rows of new users, each from a vector that was found without the row's fold.

    The rows of a user are dealt to the folds in turn; a user with one row is predicted as the average user.
    """
    place = np.zeros(len(users), dtype=np.int64)
    for user in np.unique(users):
        own = np.flatnonzero(users == user)
        place[own] = np.arange(len(own)) % folds
    logits = np.empty(len(users))
    for fold in range(folds):
        held, kept = np.flatnonzero(place == fold), place != fold
        found = fold_in(known, items, users[kept], rows[kept], labels[kept])
        average = known.mean(axis=0)
        theta = np.array([found.get(int(user), average) for user in users[held]]).reshape(len(held), len(average))
        logits[held] = items.logits(theta[:, :-1], theta[:, -1], rows[held])
    return logits


def _newton(x: FloatArray, offset: FloatArray, y: FloatArray, mean: FloatArray, precision: FloatArray) -> FloatArray:
    theta = mean.copy()
    for _ in range(STEPS):
        p = 1.0 / (1.0 + np.exp(-(offset + x @ theta)))
        gradient = x.T @ (p - y) + precision * (theta - mean)
        hessian = (x * (p * (1 - p))[:, None]).T @ x + np.diag(precision)
        step = np.linalg.solve(hessian, gradient)
        theta = theta - step
        if np.abs(step).max() < 1e-9:
            break
    return theta
