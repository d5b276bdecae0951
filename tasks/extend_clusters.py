"""Stage `clusters_extended`: the clusters of a run with one more, of users that came later (the paper's incremental setting)."""

from __future__ import annotations

import json

import numpy as np
from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from safetensors.numpy import load_file, save_file

from storage.schemas import CLUSTERS, SAMPLES
from storage.store import ArtifactRef, Draft
from storage.tables import read_table, write_table
from storage.tracking import StageTracker
from tasks.stage import RunContext, run_stage
from thinkrec_core.errors import DataError
from thinkrec_core.experts.router import cosines


@task(name="clusters_extended", cache_policy=NO_CACHE)
def extend_clusters(
    context: RunContext, clusters: ArtifactRef, encoder: ArtifactRef, data: ArtifactRef
) -> ArtifactRef | State[ArtifactRef]:
    """The artifact of the clusters stage with one more cluster, the last.

    Its users are those with train rows in `data` that the clusters did not know; they are compared with all centroids, the new
    one included. Users that the clusters knew keep their cluster and are compared with the centroids of then (their cosine
    with the new one is NaN), so under the same router their routes, gates and scores do not change.

    Raises:
        DataError: no such user.
    """
    experts = context.config.experts

    def build(draft: Draft, tracker: StageTracker) -> None:
        path = context.store.path
        summary = json.loads((path(clusters) / "clusters.json").read_text())
        space = load_file(path(clusters) / "centroids.safetensors")
        vectors = load_file(path(encoder) / "vectors.safetensors")["user_vectors"].astype(np.float64)
        users = read_table(path(data) / "samples_train.parquet", SAMPLES, ["user_idx"]).column("user_idx").to_numpy()
        rows = np.bincount(users, minlength=len(vectors))
        old = space["cosines"]
        known, count = len(old), old.shape[1]
        new = known + np.flatnonzero(rows[known:] > 0)
        if not len(new):
            raise DataError("no newcomer has train rows", "users that the run did not know", "append their rows first")

        routing = (vectors - space["mean"]) / space["std"] if summary["space"] == "zscore" else vectors
        centroids = np.vstack([space["centroids"], routing[new].mean(axis=0)])
        own_rows = int(rows[new].sum())
        trained = np.array([*summary["trained"], own_rows >= experts.min_rows])
        compared = np.zeros((len(vectors), count + 1))
        compared[:known] = np.column_stack([old, np.full(known, np.nan)])
        compared[new] = cosines(routing[new], centroids)
        cluster = np.full(len(vectors), -1, dtype=np.int32)
        columns = read_table(path(clusters) / "clusters.parquet", CLUSTERS, ["cluster"])
        cluster[1:known] = columns.column("cluster").to_numpy()
        cluster[new] = count
        write_table(
            draft.path / "clusters.parquet",
            {
                "user_idx": np.arange(1, len(vectors)),
                "train_rows": rows[1:],
                "cluster": cluster[1:],
            },
            CLUSTERS,
        )
        save_file({**space, "centroids": centroids, "cosines": compared}, draft.path / "centroids.safetensors")
        summary |= {
            "count": count + 1,
            "sizes": [*summary["sizes"], len(new)],
            "train_rows": [*summary["train_rows"], own_rows],
            "trained": trained.tolist(),
            "users": summary["users"] + len(new),
            "users_without_train_rows": int((cluster[1:] < 0).sum()),
            "added": count,
        }
        (draft.path / "clusters.json").write_text(json.dumps(summary, indent=1) + "\n")
        tracker.metrics({"newcomers": len(new), "newcomer_rows": own_rows})
        draft.manifest |= {"rows": len(vectors) - 1}

    return run_stage(
        context,
        "clusters_extended",
        build,
        inputs={"clusters": clusters, "encoder": encoder, "data": data},
        settings={"experts": experts.model_dump(mode="json", include={"min_rows"})},
    )
