"""User clusters: which users share an expert.

Users with train rows are clustered on the z-scores of their CF vectors, the space in which the router compares them (spec,
experts). N is given, or the one with the best silhouette. Clusters are numbered by falling size, so that the same partition
always has the same names.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from thinkrec_core.config.experts import ExpertsConfig
from thinkrec_core.errors import DataError
from thinkrec_core.experts.partition import FloatArray, IntArray, means, partitions, silhouette


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
    silhouettes: Mapping[int, float | None] = field(default_factory=dict)
    """Silhouette of every N that was tried."""

    @property
    def count(self) -> int:
        """N."""
        return len(self.sizes)

    def routing_vectors(self, vectors: npt.ArrayLike) -> FloatArray:
        """`vectors` (.., d) in the space of the centroids."""
        array = np.asarray(vectors, dtype=np.float64)
        return (array - self.mean) / self.std if self.space == "zscore" else array


def cluster_users(
    vectors: npt.ArrayLike,
    train_rows: npt.ArrayLike,
    config: ExpertsConfig,
    generator: np.random.Generator,
    count: int | None = None,
) -> Clusters:
    """The clusters of all users with train rows.

    Formula: z = (e - mean) / std over users with train rows; groups on z; c_n = mean of z over cluster n.
    Differs: the published code clusters z-scores but takes centroids of the raw vectors; `space: raw` does the same.

    Args:
        vectors: (U+1, d) CF user vectors, row 0 padding.
        train_rows: (U+1,) train rows per user.
        config: clustering, space, and N: `count`, or under `choose: silhouette` the N of 2..max_count with the best silhouette
            (1 where none is defined: fewer than three users, or all vectors equal).
        generator: draws the samples of users and the starts of k-means.
        count: N in the place of the config's.

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
    counts = _counts(config, count, len(known))
    mean, spread = array[known].mean(axis=0), array[known].std(axis=0)
    std = np.where(spread > 1e-12, spread, 1.0)
    z = (array[known] - mean) / std

    searched = len(counts) > 1
    best, labels, tried = 1, np.zeros(len(known), dtype=np.int32), {}
    judge = int(generator.integers(2**31))  # every N is judged on the same sample
    for tried_count, found in partitions(z, counts, config.clustering, generator):
        tried[tried_count] = silhouette(z, found, np.random.default_rng(judge))
        if not searched or _better(tried[tried_count], tried.get(best)):
            best, labels = tried_count, found

    assignment = np.full(len(array), -1, dtype=np.int32)
    assignment[known] = labels
    space = z if config.space == "zscore" else array[known]
    return Clusters(
        assignment=assignment,
        centroids=means(space, labels, best),
        mean=mean,
        std=std,
        silhouette=tried.get(best),
        sizes=tuple(int(size) for size in np.bincount(labels, minlength=best)),
        space=config.space,
        silhouettes=tried,
    )


def _counts(config: ExpertsConfig, count: int | None, users: int) -> Sequence[int]:
    if count is None and config.choose == "silhouette":
        if not users:
            raise DataError("no user has train rows", "at least one", "look at the split of the data")
        return [number for number in config.candidates if number < users] or [1]
    wanted = config.count if count is None else count
    if users < wanted:
        field = "count" if count is None else "max_count"
        raise DataError(
            f"{users} users with train rows for experts.{field} {wanted}",
            "at least one user per cluster",
            f"lower experts.{field}",
        )
    return [wanted]


def _better(value: float | None, best: float | None) -> bool:
    return value is not None and (best is None or value > best)
