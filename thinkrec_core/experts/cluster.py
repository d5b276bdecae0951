"""User clusters: which users share an expert.

Users with train rows are clustered on the z-scores of their CF vectors (spec, experts). Ward and the silhouette look at
10,000 sampled users at most; everybody else joins the nearest centroid. Clusters are numbered by falling size, so that
the same partition always has the same names.

scikit-learn is imported where it is used: it takes a second, and most runs read their clusters from the store.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from thinkrec_core.config.experts import ExpertsConfig
from thinkrec_core.errors import DataError

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int32]

MAX_CLUSTERED = 10_000
"""Users that ward, k-means and the silhouette look at; memory of ward grows with the square."""
CHUNK = 8192
"""Users whose distances to the centroids are taken at once."""


@dataclass(frozen=True)
class Clusters:
    """A partition of the users with train rows, and the space in which the router compares them."""

    assignment: IntArray
    """(U+1,) 0..N-1; -1 for the padding row and for users without train rows."""
    centroids: FloatArray
    """(N, d) mean user vector of each cluster, in the routing space; zeros for a cluster without users."""
    mean: FloatArray
    """(d,) of the z-score."""
    std: FloatArray
    """(d,) of the z-score; 1 where a coordinate is constant."""
    silhouette: float | None
    """Mean silhouette on z-scores, -1..1; None with fewer than two clusters."""
    sizes: tuple[int, ...]
    """Users per cluster, falling."""
    space: str
    """`zscore`: the routing space is that of the z-scores; `raw`: that of the vectors themselves."""

    def routing_vectors(self, vectors: npt.ArrayLike) -> FloatArray:
        """`vectors` (.., d) in the space of the centroids."""
        array = np.asarray(vectors, dtype=np.float64)
        return (array - self.mean) / self.std if self.space == "zscore" else array


def cluster_users(
    vectors: npt.ArrayLike, train_rows: npt.ArrayLike, config: ExpertsConfig, generator: np.random.Generator
) -> Clusters:
    """The clusters of all users with train rows.

    Formula: z = (e - mean) / std over users with train rows; ward or k-means on z; c_n = mean of z over cluster n.
    Differs: the published code clusters z-scores but takes centroids of the raw vectors; `space: raw` does the same.

    Args:
        vectors: (U+1, d) CF user vectors, row 0 padding.
        train_rows: (U+1,) train rows per user.
        config: count N, clustering and space.
        generator: draws the sample of users and the starts of k-means.

    Raises:
        DataError: a vector that is not finite, unequal lengths, or fewer users with train rows than clusters.
    """
    array = np.asarray(vectors, dtype=np.float64)
    rows = np.asarray(train_rows)
    if array.ndim != 2 or rows.shape != (len(array),):
        raise DataError(f"user vectors {array.shape} and train rows {rows.shape}", "(U+1, d) and (U+1,)")
    known = np.flatnonzero((rows > 0) & (np.arange(len(array)) > 0))
    bad = known[~np.isfinite(array[known]).all(axis=1)]
    if bad.size:
        raise DataError(f"the vector of user {bad[0]} is not finite ({bad.size} such users)", "a trained encoder")
    if len(known) < config.count:
        raise DataError(
            f"{len(known)} users with train rows for experts.count {config.count}",
            "at least one user per cluster",
            "lower experts.count",
        )
    mean, spread = array[known].mean(axis=0), array[known].std(axis=0)
    std = np.where(spread > 1e-12, spread, 1.0)
    z = (array[known] - mean) / std

    sample = np.sort(generator.permutation(len(known))[:MAX_CLUSTERED])
    labels = _partition(z[sample], config, generator)
    centres = _means(z[sample], labels, config.count)
    everyone = _nearest(z, centres, occupied=np.bincount(labels, minlength=config.count) > 0)
    everyone[sample] = labels
    everyone = _by_size(everyone, config.count)

    assignment = np.full(len(array), -1, dtype=np.int32)
    assignment[known] = everyone
    space = z if config.space == "zscore" else array[known]
    return Clusters(
        assignment=assignment,
        centroids=_means(space, everyone, config.count),
        mean=mean,
        std=std,
        silhouette=_silhouette(z[sample], everyone[sample]),
        sizes=tuple(int(size) for size in np.bincount(everyone, minlength=config.count)),
        space=config.space,
    )


def _partition(z: FloatArray, config: ExpertsConfig, generator: np.random.Generator) -> IntArray:
    if config.count == 1:
        return np.zeros(len(z), dtype=np.int32)
    if config.clustering == "ward":
        return _ward(z, config.count)
    from sklearn.cluster import KMeans
    from threadpoolctl import threadpool_limits

    seed = int(generator.integers(2**31))
    count = min(config.count, len(np.unique(z, axis=0)))  # equal vectors cannot be split
    with threadpool_limits(1):  # sums over threads end in another order each time
        return KMeans(count, n_init=10, random_state=seed).fit(z).labels_.astype(np.int32)


def _ward(z: FloatArray, count: int) -> IntArray:
    """Cut the ward tree at `count` clusters: undo all but the last `count` - 1 merges."""
    from sklearn.cluster import ward_tree

    children, _, leaves, _ = ward_tree(z, n_clusters=None)
    parent = np.arange(2 * leaves - 1)
    kept = leaves - count
    for index in range(kept):
        parent[children[index]] = leaves + index
    while not np.array_equal(parent, parent[parent]):  # pointer jumping: log(depth) rounds
        parent = parent[parent]
    return np.unique(parent[:leaves], return_inverse=True)[1].astype(np.int32)


def _means(vectors: FloatArray, labels: IntArray, count: int) -> FloatArray:
    one_hot = (labels == np.arange(count)[:, None]).astype(np.float64)
    return np.asarray(one_hot @ vectors / np.maximum(one_hot.sum(axis=1, keepdims=True), 1.0))


def _nearest(z: FloatArray, centres: FloatArray, occupied: npt.NDArray[np.bool_]) -> IntArray:
    norms = np.where(occupied, (centres**2).sum(axis=1), np.inf)
    parts = [np.argmin(norms - 2 * z[start : start + CHUNK] @ centres.T, axis=1) for start in range(0, len(z), CHUNK)]
    return np.concatenate(parts).astype(np.int32)


def _by_size(labels: IntArray, count: int) -> IntArray:
    """The same partition with clusters numbered by falling size, ties by their first user."""
    sizes = np.bincount(labels, minlength=count)
    first = np.full(count, len(labels))
    np.minimum.at(first, labels, np.arange(len(labels)))
    rank = np.empty(count, dtype=np.int32)
    rank[np.lexsort((first, -sizes))] = np.arange(count)
    return rank[labels]


def _silhouette(z: FloatArray, labels: IntArray) -> float | None:
    if not 2 <= len(np.unique(labels)) < len(z):
        return None
    from sklearn.metrics import silhouette_score
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):
        return float(silhouette_score(z, labels))
