"""Interactions with a known answer: planted taste clusters, popularity, user generosity and drift.

The rating of user u for item i at time t comes from one latent value

    z = generosity_u + quality_i + affinity * (1[cluster_u(t) = cluster_i] - 1/K) + logistic noise

cut at `CUTS`, so that rating >= 4 exactly where z > 0 and P(rating >= 4) = sigmoid(z without noise). Which items a user meets
follows popularity (Zipf), for a share `exposure` of the rows within the user's own cluster. With probability `drift` a user
moves to another cluster at a moment of their own (`moved_at`). No user meets an item twice. Everything is drawn in blocks of
users from named generators: memory does not grow with the rows, and equal specifications give equal arrays.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from thinkrec_core.errors import DataError
from thinkrec_core.seeds import generator

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

CUTS = np.array([-2.5, -1.2, 0.0, 1.5])
"""Where the latent value passes from rating r to r + 1, r = 1..4; the third cut separates dislike from like."""
START, SPAN = 1_577_836_800, 4 * 365 * 86_400
"""All times lie in the four years from 2020-01-01 UTC on, in seconds."""
LEAST_ROWS = 3
"""No user has fewer rows, as long as `rows` reach."""
BLOCK_ROWS = 1_000_000
"""Rows of a block of users, about."""
GENRES = (
    "Action", "Adventure", "Animation", "Comedy", "Crime", "Documentary", "Drama", "Family", "Fantasy", "History",
    "Horror", "Music", "Mystery", "Romance", "Science", "Sport", "Thriller", "Travel", "War", "Western",
)  # fmt: skip
"""Cluster k is the taste for GENRES[k]."""
_FIRST = ("Silent", "Golden", "Broken", "Hidden", "Distant", "Crimson", "Frozen", "Electric", "Paper", "Velvet", "Last")
_SECOND = ("River", "Garden", "Harbour", "Mirror", "Empire", "Summer", "Signal", "Orchard", "Station", "Compass")


@dataclass(frozen=True)
class SyntheticSpec:
    """What is drawn.

    Raises:
        DataError: a number out of range, or more rows than a quarter of all pairs of user and item.
    """

    users: int
    items: int
    rows: int
    seed: int = 7
    clusters: int = 4
    """K taste clusters, of users and of items alike."""
    affinity: float = 3.0
    """Gain of the latent value where the item is of the user's cluster."""
    generosity: float = 0.8
    """Standard deviation of generosity_u."""
    quality: float = 0.5
    """Standard deviation of quality_i."""
    popularity: float = 0.8
    """Exponent a of the weight rank^-a with which items are met; 0 makes all equally likely."""
    exposure: float = 0.4
    """Share of rows whose item comes out of the user's cluster."""
    drift: float = 0.1
    """Share of users that move to another cluster."""
    ties: float = 0.05
    """Share of rows that carry the same second as the user's row before."""

    def __post_init__(self) -> None:
        if not 1 <= self.clusters <= min(len(GENRES), self.users, self.items):
            raise DataError(
                f"clusters is {self.clusters}", f"1 to {len(GENRES)}, and no more than there are users and items"
            )
        most = self.users * max(self.items // 4, 1)
        if not self.users <= self.rows <= most:
            raise DataError(
                f"{self.rows} rows for {self.users} users and {self.items} items",
                f"{self.users} to {most} rows (at most a quarter of all pairs)",
            )
        for name in ("exposure", "drift", "ties"):
            if not 0 <= getattr(self, name) <= 1:
                raise DataError(f"{name} is {getattr(self, name)}", "a share from 0 to 1")


@dataclass(frozen=True)
class Truth:
    """What was planted. Users and items count from 0 here; the tables name them 1..U and 1..I."""

    spec: SyntheticSpec
    rows_of_user: Ints
    """(U,) rows of each user."""
    user_cluster: Ints
    """(U,) cluster at first, 0..K-1."""
    later_cluster: Ints
    """(U,) cluster from `moved_at` on; equal to `user_cluster` where the user never moves."""
    moved_at: Ints
    """(U,) seconds since 1970; the end of time where the user never moves."""
    generosity: Floats
    """(U,)"""
    item_cluster: Ints
    """(I,) 0..K-1."""
    quality: Floats
    """(I,)"""
    popularity: Floats
    """(I,) weights, sum 1."""

    def cluster_at(self, user: Ints, timestamp: Ints) -> Ints:
        """(R,) clusters of `user` (0-based) at `timestamp`."""
        return np.where(timestamp < self.moved_at[user], self.user_cluster[user], self.later_cluster[user])

    def logit(self, user: Ints, item: Ints, timestamp: Ints) -> Floats:
        """(R,) log odds of a like: what a perfect model of these data would score. 0-based users and items."""
        same = self.cluster_at(user, timestamp) == self.item_cluster[item]
        return (
            self.generosity[user] + self.quality[item] + self.spec.affinity * (same - 1 / self.spec.clusters)
        ).astype(np.float64)


@dataclass(frozen=True)
class Interactions:
    """Rows by user, then time: `user_id` 1..U, `item_id` 1..I, `rating` 1..5, `timestamp` in seconds; arrays of shape (R,)."""

    user_id: Ints
    item_id: Ints
    rating: npt.NDArray[np.int8]
    timestamp: Ints

    @property
    def label(self) -> npt.NDArray[np.int8]:
        """(R,) 1 where rating >= 4."""
        return (self.rating >= 4).astype(np.int8)


@dataclass(frozen=True)
class SyntheticData:
    """A whole data set in memory, for tests."""

    interactions: Interactions
    titles: list[str]
    """Per item 1..I."""
    genres: list[str]
    """Per item, "A|B"; the genre of its cluster is always among them."""
    truth: Truth


def synthetic(spec: SyntheticSpec) -> SyntheticData:
    """All of `spec` at once."""
    truth = plant(spec)
    blocks = list(blocks_of(truth))
    columns = (np.concatenate([getattr(block, name) for block in blocks]) for name in Interactions.__dataclass_fields__)
    titles, genres = item_texts(truth)
    return SyntheticData(Interactions(*columns), titles, genres, truth)


def plant(spec: SyntheticSpec) -> Truth:
    """Clusters, generosity, quality, popularity and drift of `spec`."""
    draw = generator(spec.seed, "synthetic", "truth")
    user_cluster = draw.permutation(np.arange(spec.users) % spec.clusters)
    moves = draw.random(spec.users) < (spec.drift if spec.clusters > 1 else 0)
    shift = draw.integers(1, max(spec.clusters, 2), spec.users)
    weight = (1.0 + draw.permutation(spec.items)) ** -spec.popularity
    moment = START + (draw.uniform(0.3, 0.9, spec.users) * SPAN).astype(np.int64)
    return Truth(
        spec=spec,
        rows_of_user=_rows_of_users(spec, draw),
        user_cluster=user_cluster,
        later_cluster=np.where(moves, (user_cluster + shift) % spec.clusters, user_cluster),
        moved_at=np.where(moves, moment, np.iinfo(np.int64).max),
        generosity=draw.normal(0, spec.generosity, spec.users),
        item_cluster=draw.permutation(np.arange(spec.items) % spec.clusters),
        quality=draw.normal(0, spec.quality, spec.items),
        popularity=weight / weight.sum(),
    )


def blocks_of(truth: Truth) -> Iterator[Interactions]:
    """The interactions, some users at a time; whole users only."""
    ends = np.cumsum(truth.rows_of_user)
    edges = np.searchsorted(ends, np.arange(BLOCK_ROWS, ends[-1] + BLOCK_ROWS, BLOCK_ROWS), side="right")
    borders = np.unique(np.concatenate([[0], edges, [truth.spec.users]]))
    for number, (first, last) in enumerate(itertools.pairwise(borders)):
        yield _block(truth, int(first), int(last), generator(truth.spec.seed, "synthetic", "block", number))


def item_texts(truth: Truth) -> tuple[list[str], list[str]]:
    """Titles and genres of the items 1..I, both lists of length I."""
    draw = generator(truth.spec.seed, "synthetic", "texts")
    items = truth.spec.items
    first, second = draw.integers(0, len(_FIRST), items), draw.integers(0, len(_SECOND), items)
    year, extra = draw.integers(1970, 2020, items), draw.integers(0, 3 * len(GENRES), items)
    titles = [
        f"{_FIRST[a]} {_SECOND[b]} {number} ({y})"
        for number, (a, b, y) in enumerate(zip(first, second, year, strict=True), 1)
    ]
    genres = [
        "|".join(sorted({GENRES[cluster], *GENRES[other : other + 1]}))
        for cluster, other in zip(truth.item_cluster, extra, strict=True)
    ]
    return titles, genres


def _rows_of_users(spec: SyntheticSpec, draw: np.random.Generator) -> Ints:
    """(U,) log-normal activity that sums to `spec.rows`, between `LEAST_ROWS` and a quarter of the items (and below)."""
    most = max(spec.items // 4, 1)
    least = min(LEAST_ROWS, spec.rows // spec.users, most)
    weight = draw.lognormal(0, 1, spec.users)
    count = np.clip((spec.rows * weight / weight.sum()).astype(np.int64), least, most)
    while (missing := spec.rows - int(count.sum())) != 0:
        movable = np.flatnonzero(count < most if missing > 0 else count > least)
        count[draw.permutation(movable)[: abs(missing)]] += np.sign(missing)
    return count


def _block(truth: Truth, first: int, last: int, draw: np.random.Generator) -> Interactions:
    user = np.repeat(np.arange(first, last), truth.rows_of_user[first:last])
    timestamp = _times(user, draw, truth.spec.ties)
    item = _distinct_items(truth, user, truth.cluster_at(user, timestamp), draw)
    latent = truth.logit(user, item, timestamp) + draw.logistic(size=len(user))
    rating = (1 + np.searchsorted(CUTS, latent)).astype(np.int8)
    return Interactions(user + 1, item + 1, rating, timestamp)


def _times(user: Ints, draw: np.random.Generator, ties: float) -> Ints:
    """(R,) seconds, rising within each user; each user is active in an interval of their own."""
    who, place = np.unique(user, return_inverse=True)
    begin = draw.uniform(0, 0.8, len(who))
    width = draw.uniform(0.2, 1.0, len(who)) * (1 - begin)
    moment = begin[place] + width[place] * draw.random(len(user))
    moment = moment[np.lexsort((moment, user))]
    seconds = START + (moment * SPAN).astype(np.int64)
    fresh = draw.random(len(user)) >= ties
    fresh[np.flatnonzero(np.diff(user, prepend=-1))] = True
    return seconds[np.maximum.accumulate(np.where(fresh, np.arange(len(user)), 0))]


def _distinct_items(truth: Truth, user: Ints, cluster: Ints, draw: np.random.Generator) -> Ints:
    """(R,) items, none twice for one user: repeated ones are drawn again, after some rounds from all items alike."""
    by_cluster = np.argsort(truth.item_cluster, kind="stable")
    weight = truth.popularity[by_cluster]
    starts = np.searchsorted(truth.item_cluster[by_cluster], np.arange(truth.spec.clusters + 1))
    total = np.concatenate([[0], np.cumsum(weight)])
    everywhere = np.cumsum(truth.popularity)

    item = np.empty(len(user), np.int64)
    todo = np.arange(len(user))
    for attempt in range(10_000):
        chance = draw.random(len(todo))
        if attempt < 5:
            low, high = (total[starts[cluster[todo] + side]] for side in (0, 1))
            own = np.searchsorted(total[1:], low + chance * (high - low), side="right")
            own = np.clip(own, starts[cluster[todo]], starts[cluster[todo] + 1] - 1)
            free = np.minimum(np.searchsorted(everywhere, chance, side="right"), truth.spec.items - 1)
            item[todo] = np.where(draw.random(len(todo)) < truth.spec.exposure, by_cluster[own], free)
        else:
            item[todo] = (chance * truth.spec.items).astype(np.int64)
        pair = user * truth.spec.items + item
        order = np.argsort(pair, kind="stable")
        todo = order[1:][np.diff(pair[order]) == 0]
        if not len(todo):
            return item
    raise AssertionError("a quarter of the items fills up within a few rounds")
