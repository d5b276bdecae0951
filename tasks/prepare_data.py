"""Stage `data`: source files to labelled, split, indexed samples with histories."""

from __future__ import annotations

from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State

from storage.crash_points import reached
from storage.prepare_folder import figures, prepare_into
from storage.readers.registry import configured_digest
from storage.store import ArtifactRef, Draft
from storage.tracking import StageTracker
from tasks.stage import RunContext, run_stage


@task(name="data", cache_policy=NO_CACHE)
def prepare_data(context: RunContext) -> ArtifactRef | State[ArtifactRef]:
    """The artifact with interactions.parquet, items.parquet, samples_{train,valid,test}.parquet, rejected.parquet and
    statistics.json.

    Its key holds the digest of the source files, not their place: a moved folder is a cache hit.

    Raises:
        DataError: the source cannot be read or used.
        AssetError: a pinned download is missing or damaged.
    """
    config, seed = context.config.data, context.config.seed
    digest = configured_digest(config)

    def build(draft: Draft, tracker: StageTracker) -> None:
        statistics = prepare_into(config, seed, draft.path)
        reached("data/prepared")
        draft.manifest["rows"] = {split: values["rows"] for split, values in statistics["splits"].items()}
        for split in statistics["splits"]:
            tracker.dataset(draft.path / f"samples_{split}.parquet", f"samples_{split}", digest, split)
        tracker.metrics(figures(statistics))
        tracker.artifact(draft.path / "statistics.json")

    settings: dict[str, Any] = {"data": config.model_dump(mode="json", exclude={"source", "synthetic"})}
    if config.max_users is not None:
        settings["seed"] = seed  # nothing else here is drawn
    return run_stage(context, "data", build, inputs={"source": digest}, settings=settings)
