"""Stage `clusters_extended`: the clusters of a run with one more, of users that came later (the paper's incremental setting)."""

from __future__ import annotations

import json

import numpy as np
from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from safetensors.numpy import load_file, save_file

from storage.rec_data import load_gates, load_routes, load_weights
from storage.schemas import CLUSTERS, SAMPLES
from storage.store import ArtifactRef, Draft
from storage.tables import read_table, write_table
from storage.tracking import StageTracker
from tasks.stage import RunContext, run_stage
from thinkrec_core.errors import DataError
from thinkrec_core.experts.router import gate_weights, route_weights


@task(name="clusters_extended", cache_policy=NO_CACHE)
def extend_clusters(
    context: RunContext, clusters: ArtifactRef, encoder: ArtifactRef, data: ArtifactRef
) -> ArtifactRef | State[ArtifactRef]:
    """The artifact of the clusters stage with one more cluster, the last.

    Its users are those with train rows in `data` that the clusters did not know; they are routed over all centroids, the new
    one included. Users that the clusters knew keep cluster, route and gates, so their scores do not change.

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
        old = load_weights(path(clusters))[0]
        known, count = len(old), old.shape[1]
        new = known + np.flatnonzero(rows[known:] > 0)
        if not len(new):
            raise DataError("no newcomer has train rows", "users that the run did not know", "append their rows first")

        routing = (vectors - space["mean"]) / space["std"] if summary["space"] == "zscore" else vectors
        centroids = np.vstack([space["centroids"], routing[new].mean(axis=0)])
        own_rows = int(rows[new].sum())
        trained = np.array([*summary["trained"], own_rows >= experts.min_rows])
        weights = np.zeros((len(vectors), count + 1))
        weights[:known, :count] = old
        weights[new] = gate_weights(routing[new], centroids, experts.router.temperature)
        routed = route_weights(weights[new], experts.router, None, trained)

        gates = np.zeros((len(vectors), count + 2))
        gates[:known, : count + 1] = load_gates(path(clusters), range(count))
        gates[known:, 0] = 1.0
        gates[new] = routed.gates
        route = np.array([*load_routes(path(clusters)), *["general"] * (len(vectors) - known)])
        route[new] = routed.route
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
                "route": route[1:].tolist(),
                "gates": gates[1:].astype(np.float32).tolist(),
            },
            CLUSTERS,
        )
        save_file({**space, "centroids": centroids, "weights": weights}, draft.path / "centroids.safetensors")
        real = route[1:]
        summary |= {
            "count": count + 1,
            "sizes": [*summary["sizes"], len(new)],
            "train_rows": [*summary["train_rows"], own_rows],
            "trained": trained.tolist(),
            "users": summary["users"] + len(new),
            "users_without_train_rows": int((cluster[1:] < 0).sum()),
            "routes": {name: int((real == name).sum()) for name in summary["routes"]},
            "mean_gates": [round(float(gate), 6) for gate in gates[1:].mean(axis=0)],
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
        settings={"experts": experts.model_dump(mode="json", include={"min_rows", "router"})},
    )
