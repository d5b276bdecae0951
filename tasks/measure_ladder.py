"""Stage `ladder`: all fitted rungs on the same test rows, with intervals, differences, predictions and one HTML page."""

from __future__ import annotations

import json

import numpy as np
from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State

from storage.encoder_data import read_examples
from storage.schemas import PREDICTIONS, SAMPLES
from storage.store import ArtifactRef, Draft
from storage.tables import extended, read_table, write_table
from storage.tracking import StageTracker
from tasks.fit_rung import read_scores
from tasks.stage import RunContext, run_stage
from thinkrec_core.evaluation.ladder import evaluate_ladder
from thinkrec_core.report.ladder_page import TEMPLATE, render_ladder
from thinkrec_core.report.templates import template_digest
from thinkrec_core.seeds import generator


@task(name="ladder", cache_policy=NO_CACHE)
def measure_ladder(
    context: RunContext, data: ArtifactRef, fitted: dict[str, ArtifactRef]
) -> ArtifactRef | State[ArtifactRef]:
    """The artifact with ladder.json, predictions.parquet and ladder.html.

    predictions.parquet has score_<rung>, the mean over fits, and where there were several also score_<rung>_seed0 ...;
    the figures are means of the figures of single fits, not figures of the mean score.

    Args:
        fitted: rung to artifact, in the order of the table.
    """
    config = context.config

    def build(draft: Draft, tracker: StageTracker) -> None:
        samples = context.store.path(data) / "samples_test.parquet"
        table, rows = read_table(samples, SAMPLES), read_examples(samples)
        scores = {name: read_scores(context.store.path(ref)) for name, ref in fitted.items()}
        found = evaluate_ladder(
            rows.user_idx,
            rows.label,
            table.column("not_cold").to_numpy(zero_copy_only=False),
            scores,
            config.ladder.floor,
            config.ladder.bootstrap,
            generator(config.seed, "bootstrap"),
            history=np.diff(rows.history_offsets),
        )
        found |= {"protocol": config.data.history, "split": config.data.split, "seeds": config.ladder.seeds}
        columns = {name: table.column(name) for name in PREDICTIONS.names}
        for name, fits in scores.items():
            columns[f"score_{name}"] = fits.mean(axis=0)
            if len(fits) > 1:
                columns |= {f"score_{name}_seed{index}": fit for index, fit in enumerate(fits)}
        schema = extended(PREDICTIONS, [name for name in columns if name not in PREDICTIONS.names])
        predictions = draft.path / "predictions.parquet"
        draft.manifest["rows"] = write_table(predictions, columns, schema)
        (draft.path / "ladder.json").write_text(json.dumps(found, indent=1) + "\n")
        (draft.path / "ladder.html").write_text(render_ladder(found), encoding="utf-8")
        for name, rung in found["rungs"].items():
            tracker.metrics({f"{name}/{key}": rung[key] for key in ("auc", "uauc", "ndcg@5", "map@5", "log_loss")})
        tracker.dataset(predictions, "predictions", data.digest, "test")
        tracker.artifact(draft.path / "ladder.json")
        tracker.artifact(draft.path / "ladder.html")

    return run_stage(
        context,
        "ladder",
        build,
        inputs={"data": data, **{ref.stage: ref for ref in fitted.values()}},
        settings={
            "seed": config.seed,
            "rungs": list(fitted),
            "seeds": config.ladder.seeds,
            "floor": config.ladder.floor,
            "bootstrap": config.ladder.bootstrap,
            "history": config.data.history,
            "split": config.data.split,
            "template": template_digest(TEMPLATE),
        },
    )
