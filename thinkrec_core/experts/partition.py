"""Partitions of points into N groups: Ward's tree, k-means and mini-batch k-means, and the silhouette that judges them.

Ward needs all distances and k-means many passes, so both look at a sample of `MAX_CLUSTERED` points; everybody else joins the
nearest centroid. Mini-batch k-means (Sculley, WWW 2010) looks at everybody. All of it runs on one thread: sums over threads
end in another order each time, and equal seeds must give equal partitions.

scikit-learn is imported where it is used: it takes a second, and most runs read their clusters from the store.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int32]
Clustering = Literal["ward", "kmeans", "minibatch"]

MAX_CLUSTERED = 10_000
"""Points that ward and k-means look at; memory of ward grows with the square."""
MAX_SILHOUETTE = 5_000
"""Points of the silhouette, whose time grows with the square."""
MINIBATCH = 8_192
"""Points of one step of mini-batch k-means."""
CHUNK = 8_192
"""Points whose distances to the centroids are taken at once."""


def partitions(
    z: FloatArray, counts: Sequence[int], clustering: Clustering, generator: np.random.Generator
) -> Iterator[tuple[int, IntArray]]:
    """(N, (P,) labels 0..N-1 by falling size) for each N of `counts`, in their order.

    Points that are equal are not split: with fewer distinct points than N, the last groups are empty. Ward's partitions are
    nested: each larger N splits one group of a smaller one (exactly so up to `MAX_CLUSTERED` points).
    """
    sample = np.sort(generator.permutation(len(z))[:MAX_CLUSTERED])
    seed = int(generator.integers(2**31))
    distinct = len(np.unique(z[sample], axis=0))
    cut = None
    for count in counts:
        if count == 1:
            yield count, np.zeros(len(z), dtype=np.int32)
        elif clustering == "minibatch":
            yield count, by_size(_minibatch(z, sample, min(count, distinct), seed), count)
        else:
            if clustering == "ward":
                cut = cut or _WardTree(z[sample])
                labels = cut(min(count, distinct))
            else:
                labels = _kmeans(z[sample], min(count, distinct), seed)
            yield count, by_size(_everyone(z, sample, labels, count), count)


def means(vectors: FloatArray, labels: IntArray, count: int) -> FloatArray:
    """(N, d) mean of each group; zeros for an empty one."""
    one_hot = (labels == np.arange(count)[:, None]).astype(np.float64)
    return np.asarray(one_hot @ vectors / np.maximum(one_hot.sum(axis=1, keepdims=True), 1.0))


def by_size(labels: IntArray, count: int) -> IntArray:
    """The same partition with groups numbered by falling size, ties by their first point."""
    sizes = np.bincount(labels, minlength=count)
    first = np.full(count, len(labels))
    np.minimum.at(first, labels, np.arange(len(labels)))
    rank = np.empty(count, dtype=np.int32)
    rank[np.lexsort((first, -sizes))] = np.arange(count)
    return rank[labels]


def silhouette(z: FloatArray, labels: IntArray, generator: np.random.Generator) -> float | None:
    """Mean silhouette, -1..1, of at most `MAX_SILHOUETTE` points; None without two groups, or with one point in each."""
    sample = np.sort(generator.permutation(len(z))[:MAX_SILHOUETTE])
    if not 2 <= len(np.unique(labels[sample])) < len(sample):
        return None
    from sklearn.metrics import silhouette_score
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):
        return float(silhouette_score(z[sample], labels[sample]))


def _minibatch(z: FloatArray, sample: npt.NDArray[np.int64], count: int, seed: int) -> IntArray:
    """Starts from the k-means of the sample: the starts that mini-batches find by themselves often join two groups."""
    from sklearn.cluster import MiniBatchKMeans
    from threadpoolctl import threadpool_limits

    start = means(z[sample], _kmeans(z[sample], count, seed), count)
    with threadpool_limits(1):
        model = MiniBatchKMeans(count, init=start, n_init=1, batch_size=MINIBATCH, random_state=seed)
        return model.fit(z).labels_.astype(np.int32)


def _kmeans(z: FloatArray, count: int, seed: int) -> IntArray:
    from sklearn.cluster import KMeans
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):
        return KMeans(count, n_init=10, random_state=seed).fit(z).labels_.astype(np.int32)


class _WardTree:
    """Ward's tree of points; calling it cuts the tree at N groups: all but the last N - 1 merges are kept."""

    def __init__(self, z: FloatArray) -> None:
        self._leaves = len(z)
        if len(z) > 1:
            from sklearn.cluster import ward_tree

            self._children, *_ = ward_tree(z, n_clusters=None)

    def __call__(self, count: int) -> IntArray:
        leaves = self._leaves
        parent = np.arange(2 * leaves - 1)
        for index in range(leaves - count):
            parent[self._children[index]] = leaves + index
        while not np.array_equal(parent, parent[parent]):  # pointer jumping: log(depth) rounds
            parent = parent[parent]
        return np.unique(parent[:leaves], return_inverse=True)[1].astype(np.int32)


def _everyone(z: FloatArray, sample: npt.NDArray[np.int64], labels: IntArray, count: int) -> IntArray:
    """Labels of all points from those of a sample."""
    if len(sample) == len(z):
        return labels
    centres = means(z[sample], labels, count)
    occupied = np.bincount(labels, minlength=count) > 0
    norms = np.where(occupied, (centres**2).sum(axis=1), np.inf)
    parts = [np.argmin(norms - 2 * z[start : start + CHUNK] @ centres.T, axis=1) for start in range(0, len(z), CHUNK)]
    everyone = np.concatenate(parts).astype(np.int32)
    everyone[sample] = labels
    return everyone
