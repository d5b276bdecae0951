"""Stage `window_scores`: a bundle's scores of valid rows, whichever data it was trained on; what promotion and drift read."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State

from storage.bundle import Bundle
from storage.crash_points import reached
from storage.schemas import ITEMS, SAMPLES, WINDOW_SCORES
from storage.store import ArtifactRef, Draft
from storage.tables import read_table, write_table
from storage.tracking import StageTracker
from tasks.stage import RunContext, run_stage
from thinkrec_core.evaluation.ladder import pick_test_rows
from thinkrec_core.seeds import generator

if TYPE_CHECKING:
    import pyarrow as pa

    from tasks.recommender import Reader, Recommender

SCORED_BY = {"seed", "data", "encoder", "llm", "training", "experts", "reflections"}
"""Parts of a bundle's configuration that its scores may depend on."""
PART = 256
"""Rows between two updates of the progress."""


@task(name="window_scores", cache_policy=NO_CACHE)
def score_window(
    context: RunContext, bundle: Bundle, data: ArtifactRef, label: str
) -> ArtifactRef | State[ArtifactRef]:
    """The artifact with scores.parquet: the valid rows of `data` that `rerun.rows` asks for, scored by `bundle`.

    Users, items and histories are found by their raw ids. A user whom the bundle does not know is answered as its stranger; a
    row whose item it does not know has no score.

    Args:
        label: what the run calls it, such as champion_scores.

    Raises:
        ModelError: the base model of the bundle is not on this machine any more.
    """
    config = context.config

    def build(draft: Draft, tracker: StageTracker) -> None:
        from tasks.recommender import Recommender  # loads torch, which a cached stage does not need

        folder = context.store.path(data)
        table = read_table(folder / "samples_valid.parquet", SAMPLES)
        users = table.column("user_idx").to_numpy()
        rows = pick_test_rows(users, config.rerun.rows, generator(config.seed, "window"))
        table = table.take(rows)
        recommender = Recommender(bundle)
        places = {raw: place for place, raw in enumerate(recommender.item_ids) if place}
        items = read_table(folder / "items.parquet", ITEMS, ["item_idx", "item_id"])
        own = np.zeros(
            int(items.column("item_idx").to_numpy().max()) + 1, np.int64
        )  # item_idx of the data to the bundle's
        own[items.column("item_idx").to_numpy()] = [places.get(raw, 0) for raw in items.column("item_id").to_pylist()]
        targets = own[table.column("item_idx").to_numpy()]
        readers = _readers(recommender, table, own)
        scores, known = np.zeros(len(rows)), np.flatnonzero(targets)
        with context.view.progress(f"scoring for {label}", len(known)) as advance:
            for start in range(0, len(known), PART):
                chosen = known[start : start + PART]
                scores[chosen] = recommender.score_rows([readers[at] for at in chosen], targets[chosen]).final
                advance(completed=start + len(chosen))
        reached("window_scores/scored")
        columns = {
            "row": rows,
            "user_idx": users[rows],
            "label": table.column("label").to_numpy(),
            "known_user": [reader.user_idx > 0 for reader in readers],
            "known_item": targets > 0,
            "score": scores,
        }
        draft.manifest["rows"] = write_table(draft.path / "scores.parquet", columns, WINDOW_SCORES)

    own_config = {name: value for name, value in bundle.facts["config"].items() if name in SCORED_BY}
    return run_stage(
        context,
        "window_scores",
        build,
        inputs={"data": data, "bundle": bundle.digest, "model": str(bundle.facts["base"]["digest"])},
        settings={"rows": config.rerun.rows, "seed": config.seed, "bundle": own_config},
        label=label,
    )


def _readers(recommender: Recommender, table: pa.Table, own: np.ndarray) -> list[Reader]:
    """Who the rows are for, with the histories of the rows in the bundle's numbers."""
    from tasks.recommender import Reader

    known = set(recommender.user_ids)
    liked = recommender.config.data.history == "liked"
    found = []
    columns = (table.column(name).to_pylist() for name in ("user_id", "history_item_idx", "history_label"))
    for raw, items, labels in zip(*columns, strict=True):
        pairs = [(int(own[item]), label) for item, label in zip(items, labels, strict=True) if own[item]]
        pairs = [pair for pair in pairs if pair[1] == 1 or not liked]
        index = recommender.user(raw).user_idx if raw in known else 0
        found.append(Reader(index, tuple(item for item, _ in pairs), tuple(label for _, label in pairs), raw))
    return found
