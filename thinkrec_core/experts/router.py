"""The router: which adapters speak for a user, and with what weights.

    w = softmax(cos(e_u, c_n) / temperature),  H = -sum_n w_n ln w_n          (spec, experts)

    H >= .95 ln N             nobody fits     -> the general adapter
    else max w > .5 + .6 / N  one fits        -> that expert alone
    else                      several fit     -> the fusion sum_n w_n dW_n

That is the mode `paper`; `soft` always fuses, `hard` always takes the expert with the largest weight, and `fusion` is the rule
without its second line. Users without train rows and N = 1 get the general adapter. All users are routed in one pass, from
their cosines alone: another temperature or mode needs no clusters anew.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from thinkrec_core.config.experts import RouterConfig
from thinkrec_core.errors import DataError

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

GENERAL, SINGLE, FUSION = "general", "single", "fusion"
ENTROPY_SHARE = 0.95
"""Share of the largest possible entropy from which on nobody fits."""
CONCENTRATION = (0.5, 0.6)
"""a and b of the threshold a + b / N above which one expert is enough."""


@dataclass(frozen=True)
class Routes:
    """The route of each of U users."""

    route: npt.NDArray[np.str_]
    """(U,) general, single or fusion."""
    gates: FloatArray
    """(U, N+1) weights that are applied: [general, expert 0, ..., expert N-1]; each row sums to 1."""
    weights: FloatArray
    """(U, N) softmax weights before the rule."""
    entropy: FloatArray
    """(U,) of the weights, in nats, 0..ln N."""
    compared: npt.NDArray[np.int64]
    """(U,) each user's N: the number of centroids behind the weights."""


def columns_of(experts: Iterable[int]) -> list[int]:
    """The columns of gates that an LM with the general adapter and these experts has, in that order."""
    return [0, *(number + 1 for number in experts)]


def cosines(vectors: npt.ArrayLike, centroids: npt.ArrayLike) -> FloatArray:
    """(U, N) cos(e_u, c_n); 0 with a vector of zeros.

    Args:
        vectors: (U, d) user vectors in the space of the centroids.
        centroids: (N, d).

    Raises:
        DataError: a vector that is not finite.
    """
    e, c = _directions(vectors, "user"), _directions(centroids, "centroid")
    return np.asarray(e @ c.T)


def gate_weights(cosines: npt.ArrayLike, temperature: float) -> FloatArray:
    """(U, N) w = softmax(cos(e_u, c_n) / temperature).

    Args:
        cosines: (U, N) of users and centroids.
        temperature: above 0; smaller is sharper.
    """
    logits = np.asarray(cosines, dtype=np.float64) / temperature
    logits -= logits.max(axis=1, keepdims=True)
    weights = np.exp(logits)
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))


def route_weights(
    weights: npt.ArrayLike,
    config: RouterConfig,
    known: npt.ArrayLike | None = None,
    trained: npt.ArrayLike | None = None,
) -> Routes:
    """The routes of users with these gate weights.

    An expert that was not trained (its cluster has too few train rows) would repeat the general adapter, so its weight
    is folded into the general one; a user left with nothing else has the route `general`.

    Args:
        weights: (U, N), rows sum to 1.
        config: `mode` says which of the rules apply.
        known: (U,) False for users without train rows; all known if None.
        trained: (N,) False for experts without an adapter of their own; all trained if None.
    """
    w = np.asarray(weights, dtype=np.float64)
    users, experts = w.shape
    is_known = np.ones(users, dtype=bool) if known is None else np.asarray(known, dtype=bool)
    is_trained = np.ones(experts, dtype=bool) if trained is None else np.asarray(trained, dtype=bool)
    entropy = -np.where(w > 0, w * np.log(np.where(w > 0, w, 1.0)), 0.0).sum(axis=1)

    a, b = CONCENTRATION
    unsure = (entropy >= ENTROPY_SHARE * np.log(experts)) & (config.mode in ("paper", "fusion"))
    sure = (w.max(axis=1) > a + b / experts) & (config.mode == "paper")
    general = ~is_known | (experts == 1) | unsure
    single = ~general & (sure | (config.mode == "hard"))

    largest = np.eye(experts)[w.argmax(axis=1)]
    own = np.where(single[:, None], largest, w) * ~general[:, None]
    own = np.where(is_trained, own, 0.0)
    gates = np.column_stack([1.0 - own.sum(axis=1), own])
    gates[:, 0] = np.where(gates[:, 0] > 1e-12, gates[:, 0], 0.0)  # rounding of a fusion is no general share
    route = np.select([own.sum(axis=1) == 0, single], [GENERAL, SINGLE], FUSION)
    return Routes(route, gates, w, entropy, np.full(users, experts))


def route_users(cosines: npt.ArrayLike, config: RouterConfig, known: npt.ArrayLike, trained: npt.ArrayLike) -> Routes:
    """The routes of users with these cosines; each user's N is the number of centroids that it was compared with.

    Args:
        cosines: (U, N); NaN in the last columns of a user who was there before these centroids, and is routed without them.
        config: of the weights and of the rule.
        known: (U,) as for `route_weights`.
        trained: (N,) as for `route_weights`.
    """
    cos, is_known, is_trained = np.asarray(cosines, dtype=np.float64), np.asarray(known), np.asarray(trained)
    compared = np.isfinite(cos).sum(axis=1)
    found = Routes(
        route=np.full(len(cos), GENERAL, dtype=f"<U{max(map(len, (GENERAL, SINGLE, FUSION)))}"),
        gates=np.zeros((len(cos), 1 + cos.shape[1])),
        weights=np.zeros(cos.shape),
        entropy=np.zeros(len(cos)),
        compared=compared,
    )
    for count in np.unique(compared):
        rows = compared == count
        weights = gate_weights(cos[rows, :count], config.temperature)
        own = route_weights(weights, config, is_known[rows], is_trained[:count])
        found.route[rows], found.entropy[rows] = own.route, own.entropy
        found.gates[rows, : 1 + count], found.weights[rows, :count] = own.gates, own.weights
    return found


def _directions(vectors: npt.ArrayLike, what: str) -> FloatArray:
    array = np.asarray(vectors, dtype=np.float64)
    bad = np.flatnonzero(~np.isfinite(array).all(axis=1))
    if bad.size:
        raise DataError(f"the vector of {what} {bad[0]} is not finite", "a trained encoder")
    norms = np.linalg.norm(array, axis=1, keepdims=True)
    return np.divide(array, norms, out=np.zeros_like(array), where=norms > 0)
