"""Explanations: student and teacher explain the same held-out rows, and the one is measured against the other."""

from __future__ import annotations

import json
from typing import Any

from prefect import flow

from flows.config import load_config
from flows.preflight import preflight_explanations
from flows.run import Run, open_run
from flows.training import train
from storage.store import ArtifactRef
from tasks.collect_references import collect_references
from tasks.explain_rows import explain_rows
from tasks.measure_explanations import measure_texts


@flow(name="explanations", flow_run_name="explanations {preset}", persist_result=False)
def explanations(
    preset: str = "quickstart",
    overrides: dict[str, Any] = {},  # noqa: B006 - never changed; the server's form shows it as the default
) -> dict[str, Any]:
    """The summary of a measurement, also kept as runs/<run>.json below the store.

    Keys: run, preset, seconds, stages, all_cached, artifacts, the figures of `measure_explanations`, split, references
    {accepted, rejected, model, note}, table, report, mlflow_run, mlflow_uri.

    Args:
        preset: name of a preset.
        overrides: fields that replace those of the preset, nested or dotted.

    Raises:
        ThinkRecError: a mistake of the user; finished stages, answers of the teacher and explanations are kept.
    """
    config = load_config(preset, overrides)
    with open_run(f"explanations-{preset}", config, preflight_explanations) as run:
        trained = train(run)
        asked = config.explanations
        references = run(collect_references, trained.data, asked.split, asked.rows)
        texts = run(
            explain_rows,
            trained.data,
            trained.encoder,
            trained.general,
            trained.clusters,
            trained.experts,
            references,
        )
        return run.keep(_summary(run, preset, run(measure_texts, trained.data, references, texts)))


def _summary(run: Run, preset: str, measured: ArtifactRef) -> dict[str, Any]:
    folder = run.context.store.path(measured)
    return {
        "run": run.name,
        "preset": preset,
        "seconds": run.seconds,
        **run.stages(),
        **json.loads((folder / "explanations.json").read_text(encoding="utf-8")),
        "table": str(folder / "explanations.parquet"),
        "report": str(folder / "explanations.html"),
        "mlflow_run": run.context.tracker.run_id,
        "mlflow_uri": run.context.tracker.uri,
    }
