"""Stage `data`: source files to labelled, split, indexed samples with histories."""

from __future__ import annotations

import json
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State

from storage.prepare import prepare
from storage.readers.registry import read_source, source_digest
from storage.schemas import INTERACTIONS, ITEMS, SAMPLES
from storage.store import ArtifactRef, Draft
from storage.tables import write_table
from storage.tracking import StageTracker
from tasks.stage import RunContext, run_stage


@task(name="data", cache_policy=NO_CACHE)
def prepare_data(context: RunContext) -> ArtifactRef | State[ArtifactRef]:
    """The artifact with interactions.parquet, items.parquet, samples_{train,valid,test}.parquet and statistics.json.

    Its key holds the digest of the source files, not their place: a moved folder is a cache hit.

    Raises:
        DataError: the source cannot be read or used.
        AssetError: a pinned download is missing or damaged.
    """
    config, seed = context.config.data, context.config.seed
    digest = source_digest(config.source)

    def build(draft: Draft, tracker: StageTracker) -> None:
        prepared = prepare(read_source(config.source), config, seed)
        write_table(draft.path / "interactions.parquet", prepared.interactions, INTERACTIONS)
        write_table(draft.path / "items.parquet", prepared.items, ITEMS)
        for split, table in prepared.samples.items():
            path = draft.path / f"samples_{split}.parquet"
            write_table(path, table, SAMPLES)
            tracker.dataset(path, f"samples_{split}", digest, split)
        statistics = {**prepared.statistics, "source_digest": digest}
        (draft.path / "statistics.json").write_text(json.dumps(statistics, indent=1, sort_keys=True) + "\n")
        draft.manifest["rows"] = {split: table.num_rows for split, table in prepared.samples.items()}
        tracker.metrics({"users": statistics["users"], "items": statistics["items"]})
        for split, values in statistics["splits"].items():
            tracker.metrics({f"{split}_{name}": values[name] for name in ("rows", "positives", "users", "warm_share")})

    settings: dict[str, Any] = {"data": config.model_dump(mode="json", exclude={"source"})}
    if config.max_users is not None:
        settings["seed"] = seed  # nothing else here is drawn
    return run_stage(context, "data", build, inputs={"source": digest}, settings=settings)
