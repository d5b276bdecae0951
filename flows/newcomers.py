"""One more expert for users that came after a run; adapters, clusters and routes of the others stay as they are."""

from __future__ import annotations

import json
from typing import Any

from prefect import flow

from flows.data import prepared
from flows.run import open_run
from storage.finished_run import finished_run
from storage.home import store_root
from storage.rec_data import trained_clusters
from storage.store import ArtifactStore
from tasks.evaluate import evaluate
from tasks.extend_clusters import extend_clusters
from tasks.extend_encoder import extend_encoder
from tasks.train_llm import train_expert
from thinkrec_core.config.root import ThinkRecConfig


@flow(name="add_expert", flow_run_name="newcomers in {source}", persist_result=False)
def add_expert(source: str, base: str | None = None) -> dict[str, Any]:
    """The summary of the addition, also kept as runs/<run>.json: a run whose experts are those of `base` and one more.

    Keys: run, base, preset, seconds, stages, all_cached, artifacts, config, rows, users, floor, rungs (on the test rows of all
    users), newcomers {cluster, users, train_rows, trained, test: figures of their test rows under general and routed},
    adapters, predictions, mlflow_run, mlflow_uri.

    Args:
        source: the data of `base`, grown: rows were appended, numbers of users and items are the same.
        base: name of a finished run; the newest if None.

    Raises:
        ThinkRecError: a mistake of the user.
    """
    old = finished_run(ArtifactStore(store_root()), base)
    values = old.summary["config"]
    config = ThinkRecConfig.model_validate({**values, "data": {**values["data"], "source": source}})
    with open_run(f"newcomers-{old.summary['preset']}", config) as run:
        path = run.context.store.path
        data = prepared(run)
        encoder = run(extend_encoder, old.encoder, old.data, data)
        clusters = run(extend_clusters, old.clusters, encoder, data)
        facts = json.loads((path(clusters) / "clusters.json").read_text())
        number = facts["added"]
        experts = dict(old.experts)
        if number in trained_clusters(path(clusters)):
            experts[number] = run(train_expert, data, encoder, None, old.general, clusters, number)
        evaluation = run(evaluate, data, encoder, old.general, clusters, tuple(experts.values()))
        ladder = json.loads((path(evaluation) / "rungs.json").read_text())
        figures = json.loads((path(evaluation) / "experts.json").read_text())
        adapters = {"general": old.general} | {f"expert_{number}": ref for number, ref in experts.items()}
        # By the names that every run has for them, so that bundles and comparisons find them: parts of the old run too.
        parts = {"data": data, "encoder": encoder, "clusters": clusters, **adapters}
        stages = run.stages()
        stages["artifacts"] |= {name: ref.model_dump() for name, ref in parts.items()}
        summary = {
            "run": run.name,
            "base": old.name,
            "preset": old.summary["preset"],
            "seconds": run.seconds,
            **stages,
            "config": config.model_dump(mode="json"),
            **{key: ladder[key] for key in ("rows", "users", "floor", "rungs")},
            "newcomers": {
                "cluster": number,
                "users": facts["sizes"][number],
                "train_rows": facts["train_rows"][number],
                "trained": facts["trained"][number],
                "test": figures.get("clusters", {}).get(str(number)),
            },
            "adapters": {name: str(path(ref) / "adapter") for name, ref in adapters.items()},
            "predictions": str(path(evaluation) / "predictions.parquet"),
            "mlflow_run": run.context.tracker.run_id,
            "mlflow_uri": run.context.tracker.uri,
        }
        return run.keep(summary)
