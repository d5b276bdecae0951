"""Where users stand on a plane: two principal components of their standardised vectors, for a picture of the clusters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from storage.schemas import CLUSTERS
from storage.tables import read_table

if TYPE_CHECKING:
    from tasks.recommender import Recommender

MOST = 1000
"""Users that the picture shows, evenly spaced over all known ones."""


def user_map(recommender: Recommender) -> tuple[npt.NDArray[np.float64], dict[str, list[Any]]]:
    """(U+1, 2) places, NaN where a user has no train rows; and cluster, x and y of the shown ones."""
    table = read_table(recommender.bundle.path / "clusters" / "clusters.parquet", CLUSTERS, ["cluster"])
    cluster = np.concatenate([[-1], table.column("cluster").to_numpy()])
    known = np.flatnonzero(cluster >= 0)
    vectors = recommender.user_vectors.astype(np.float64)
    places = np.full((len(vectors), 2), np.nan)
    if len(known) == 0:
        return places, {"cluster": [], "x": [], "y": []}
    shown = known[np.linspace(0, len(known) - 1, min(MOST, len(known))).astype(int)]
    centre = vectors[shown].mean(axis=0)
    _, axes = np.linalg.eigh((vectors[shown] - centre).T @ (vectors[shown] - centre))
    axes = axes[:, ::-1][:, :2]
    axes *= np.sign(axes[np.abs(axes).argmax(axis=0), np.arange(axes.shape[1])])  # a component has no sign of its own
    places[known, : axes.shape[1]] = np.round((vectors[known] - centre) @ axes, 3)
    places[known, axes.shape[1] :] = 0.0
    return places, {
        "cluster": cluster[shown].tolist(),
        "x": places[shown, 0].tolist(),
        "y": places[shown, 1].tolist(),
    }
