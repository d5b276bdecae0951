"""Stage `clusters`: user clusters, their centroids, and the cosines of every user with them, from which users are routed."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import numpy.typing as npt
from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from safetensors.numpy import load_file, save_file

from storage.crash_points import reached
from storage.schemas import CLUSTERS, SAMPLES
from storage.store import ArtifactRef, Draft
from storage.tables import read_table, write_table
from storage.tracking import StageTracker
from tasks.stage import RunContext, run_stage
from thinkrec_core.experts.cluster import Clusters
from thinkrec_core.experts.cluster import cluster_users as find_clusters
from thinkrec_core.experts.router import cosines
from thinkrec_core.seeds import generator

FIELDS = {"count", "choose", "max_count", "clustering", "space", "min_rows"}
"""Fields of `experts` that decide clusters; how experts are trained and users are routed does not."""
MAP_USERS = 500
"""Users in the 2-D map of clusters.json."""
TSNE_USERS = 20
"""Fewer users have no t-SNE."""
FloatArray = npt.NDArray[np.float64]


@task(name="clusters", cache_policy=NO_CACHE)
def cluster_users(
    context: RunContext, data: ArtifactRef, encoder: ArtifactRef, count: int | None = None
) -> ArtifactRef | State[ArtifactRef]:
    """The artifact with clusters.parquet, centroids.safetensors and clusters.json.

    clusters.json: count, sizes, train_rows and trained per cluster (False where fewer than `experts.min_rows`: the
    cluster keeps the general adapter), silhouette, silhouettes (by N, where several were tried), users,
    users_without_train_rows, and a 2-D map of a sample. Routes and gates are computed where they are read, by
    `storage.rec_data.load_routes`: another router runs the stages that read them, and this one stays.

    Args:
        count: N in the place of what the config says.
    """
    experts = context.config.experts
    if count is not None:
        experts = experts.model_copy(update={"count": count, "choose": "count", "max_count": None})
    seed = context.config.seed

    def build(draft: Draft, tracker: StageTracker) -> None:
        vectors = load_file(context.store.path(encoder) / "vectors.safetensors")["user_vectors"]
        samples = context.store.path(data) / "samples_train.parquet"
        users = read_table(samples, SAMPLES, ["user_idx"]).column("user_idx")
        tracker.dataset(samples, "samples_train", data.digest, "clusters")
        train_rows = np.bincount(users.to_numpy(), minlength=len(vectors))[: len(vectors)]

        clusters = find_clusters(vectors, train_rows, experts, generator(seed, "clusters"))
        reached("clusters/found")
        known = clusters.assignment >= 0
        per_cluster = np.bincount(
            clusters.assignment[known], weights=train_rows[known], minlength=clusters.count
        ).astype(np.int64)
        trained = (per_cluster >= experts.min_rows) & (clusters.count > 1)

        space = np.zeros(vectors.shape)
        space[known] = clusters.routing_vectors(vectors[known])  # strangers may lack a vector; the router skips them

        write_table(
            draft.path / "clusters.parquet",
            {
                "user_idx": np.arange(1, len(vectors)),
                "train_rows": train_rows[1:],
                "cluster": clusters.assignment[1:],
            },
            CLUSTERS,
        )
        save_file(
            {
                "centroids": clusters.centroids,
                "mean": clusters.mean,
                "std": clusters.std,
                "cosines": cosines(space, clusters.centroids),  # (U+1, N)
            },
            draft.path / "centroids.safetensors",
        )
        summary = {
            "count": clusters.count,
            "clustering": experts.clustering,
            "space": experts.space,
            "sizes": list(clusters.sizes),
            "train_rows": per_cluster.tolist(),
            "trained": trained.tolist(),
            "min_rows": experts.min_rows,
            "silhouette": clusters.silhouette,
            "silhouettes": clusters.silhouettes,
            "users": int(known.sum()),
            "users_without_train_rows": int((~known[1:]).sum()),
            "map": _map(clusters, vectors, generator(seed, "clusters", "map")),
        }
        (draft.path / "clusters.json").write_text(json.dumps(summary, indent=1) + "\n")
        draft.manifest.update(rows=len(vectors) - 1, seed=seed)
        tracker.metrics(
            {
                "silhouette": clusters.silhouette,
                **{f"cluster_{n}_users": size for n, size in enumerate(clusters.sizes)},
            }
        )

    return run_stage(
        context,
        "clusters",
        build,
        inputs={"data": data, "encoder": encoder},
        settings={"experts": experts.model_dump(mode="json", include=FIELDS), "seed": seed},
    )


def _map(clusters: Clusters, vectors: npt.NDArray[np.floating[Any]], rng: np.random.Generator) -> dict[str, Any]:
    """Two principal components of the z-scores of a sample of users, and their t-SNE, for pictures."""
    known = np.flatnonzero(clusters.assignment >= 0)
    sample = np.sort(rng.permutation(known)[:MAP_USERS])
    z = (vectors[sample].astype(np.float64) - clusters.mean) / clusters.std
    z -= z.mean(axis=0)
    _, axes = np.linalg.eigh(z.T @ z)
    axes = axes[:, ::-1][:, :2]
    axes *= np.sign(
        axes[np.abs(axes).argmax(axis=0), np.arange(axes.shape[1])]
    )  # an eigenvector has no sign of its own
    points = z @ axes
    if points.shape[1] < 2:
        points = np.column_stack([points, np.zeros(len(points))])
    found = {"cluster": clusters.assignment[sample].tolist(), **_points(points)}
    return found | ({"tsne": _points(_tsne(z, int(rng.integers(2**31))))} if len(z) >= TSNE_USERS else {})


def _tsne(z: FloatArray, seed: int) -> FloatArray:
    """(P, 2) t-SNE (van der Maaten and Hinton, JMLR 2008): neighbours stay together, distances mean little."""
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):
        return TSNE(perplexity=min(30.0, (len(z) - 1) / 3), init="pca", random_state=seed).fit_transform(z)


def _points(xy: FloatArray) -> dict[str, list[float]]:
    return {"x": np.round(xy[:, 0], 3).tolist(), "y": np.round(xy[:, 1], 3).tolist()}
