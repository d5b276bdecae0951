"""The ladder: every method without a language model on the same rows, so that an LLM has something to beat."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from prefect import flow

from flows.config import load_config
from flows.data import prepared
from flows.run import Run, open_run
from storage.store import ArtifactRef, ArtifactStore
from tasks.fit_rung import fit_rung
from tasks.measure_ladder import measure_ladder
from thinkrec_core.config.root import ThinkRecConfig
from thinkrec_core.report.published import published_rows


@flow(name="ladder", flow_run_name="ladder {preset}", persist_result=False)
def ladder(
    preset: str = "quickstart",
    overrides: dict[str, Any] = {},  # noqa: B006 - never changed; the server's form shows it as the default
) -> dict[str, Any]:
    """The summary of a ladder, also kept as runs/<run>.json below the store.

    Keys: run, preset, seconds, stages, all_cached, artifacts, rows, users, floor, protocol, seeds, rungs {name: {auc, uauc, auc_ci,
    ...}}, published, predictions, report, mlflow_run, mlflow_uri.

    Args:
        preset: name of a preset.
        overrides: fields that replace those of the preset, nested or dotted.

    Raises:
        ThinkRecError: a mistake of the user; fitted rungs are kept.
    """
    config = load_config(preset, overrides)
    with open_run(f"ladder-{preset}", config, _opened) as run:
        data = prepared(run)
        fitted = {name: run(fit_rung.with_options(name=f"rung_{name}"), data, name) for name in config.ladder.rungs}
        return run.keep(_summary(run, preset, run(measure_ladder, data, fitted)))


def _opened(config: ThinkRecConfig, root: Path) -> ArtifactStore:
    """The store; no language model is needed here."""
    return ArtifactStore(root)


def _summary(run: Run, preset: str, measured: ArtifactRef) -> dict[str, Any]:
    folder = run.context.store.path(measured)
    found = json.loads((folder / "ladder.json").read_text(encoding="utf-8"))
    return {
        "run": run.name,
        "preset": preset,
        "seconds": run.seconds,
        **run.stages(),
        **found,
        "published": published_rows(),
        "predictions": str(folder / "predictions.parquet"),
        "report": str(folder / "ladder.html"),
        "mlflow_run": run.context.tracker.run_id,
        "mlflow_uri": run.context.tracker.uri,
    }
